"""The CIFAR-10 study: `train.py` makes rows, `report.py` reads them."""

"""Crops for the tests of review."""

import cv2
import numpy as np

from pipeline.commands.review import Item

TILE = cv2.imencode(".jpg", np.full((160, 160, 3), (40, 90, 200), np.uint8))[1].tobytes()
GOOD = Item("a_000000_0.jpg", TILE, 0.8, 2.0, 200.0, "a", 0.0, 0, 0.2)

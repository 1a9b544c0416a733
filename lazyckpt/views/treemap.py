"""The layout of a treemap: rectangles with areas proportional to sizes. Pure functions.

The algorithm is that of Bruls, Huizing and van Wijk, "Squarified treemaps": a row of rectangles is laid along the
shorter side of the remaining area, and takes the next size as long as that makes its worst rectangle more square.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle: its lower left corner, its width, its height."""

    x: float
    y: float
    width: float
    height: float

    def inset(self, by: float, top: float = 0.0) -> Box:
        """A smaller rectangle inside: `by` from each side, and a further `top` from the upper one."""
        width, height = max(0.0, self.width - 2 * by), max(0.0, self.height - 2 * by - top)
        return Box(self.x + by, self.y + by, width, height)


def squarified(sizes: Sequence[float], room: Box) -> list[Box]:
    """Rectangles with areas proportional to sizes, which together fill a rectangle.

    Args:
        sizes: not negative; a size of 0 gets a rectangle without area. Largest first looks best.
        room: the rectangle to fill.

    Returns:
        Rectangles in the order of `sizes`.
    """
    total = sum(sizes)
    if total <= 0 or room.width <= 0 or room.height <= 0:
        return [Box(room.x, room.y, 0.0, 0.0) for _ in sizes]
    scale = room.width * room.height / total
    areas = [size * scale for size in sizes]
    boxes: list[Box] = []
    while len(boxes) < len(areas):
        side = min(room.width, room.height)
        row = _row(areas, len(boxes), side)
        placed, room = _placed(areas[len(boxes) : len(boxes) + row], room)
        boxes += placed
    return boxes


def _row(areas: Sequence[float], first: int, side: float) -> int:
    """The number of areas from `first` on that make the best row along a side."""
    if side <= 0:
        return len(areas) - first
    taken = 1
    total = low = high = areas[first]
    worst = _worst(total, low, high, side)
    for area in areas[first + 1 :]:
        low, high = min(low, area), max(high, area)
        then = _worst(total + area, low, high, side)
        if then > worst:
            break
        total, worst, taken = total + area, then, taken + 1
    return taken


def _worst(total: float, low: float, high: float, side: float) -> float:
    """The largest ratio of length to breadth in a row."""
    if low <= 0 or total <= 0:
        return float("inf")
    return max(side * side * high / (total * total), total * total / (side * side * low))


def _placed(areas: Sequence[float], room: Box) -> tuple[list[Box], Box]:
    """The rectangles of a row along the shorter side, and the remaining area."""
    total = sum(areas)
    boxes: list[Box] = []
    if room.width >= room.height:
        breadth = total / room.height if room.height else 0.0
        y = room.y
        for area in areas:
            height = area / breadth if breadth else 0.0
            boxes.append(Box(room.x, y, breadth, height))
            y += height
        return boxes, Box(room.x + breadth, room.y, max(0.0, room.width - breadth), room.height)
    breadth = total / room.width if room.width else 0.0
    x = room.x
    for area in areas:
        width = area / breadth if breadth else 0.0
        boxes.append(Box(x, room.y, width, breadth))
        x += width
    return boxes, Box(room.x, room.y + breadth, room.width, max(0.0, room.height - breadth))

"""Read maps in the format of ROS's map_server: a YAML file that names an image."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml
from numpy.typing import NDArray

from fleet_market.errors import InputError, UnreadableError
from fleet_market.maps.grid import OccupancyGrid

MAX_CELLS = 64_000_000
WHITE = 255
MAX_HEADER_BYTES = 4096
_GAP = rb"(?:\s|#[^\n\r]*[\n\r])+"
GREYMAP = re.compile(rb"P5" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s")
"""Its header: width, height and the value of white, with comments between."""
Pixels: TypeAlias = NDArray[np.uint8]


def load_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises
    ------
    InputError
        If the file is missing, is no UTF-8 YAML, or holds no mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableError(path, error) from None
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"byte {error.start}", "not UTF-8", "save the file as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark is not None else "file"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(str(path), line, problem, "mend the YAML there") from None
    if not isinstance(data, dict):
        raise InputError(str(path), "file", type(data).__name__, "use a YAML mapping with named fields")
    return data


def load_map(path: Path) -> OccupancyGrid:
    """Return the map that a map_server YAML file describes.

    Pixels are read as Nav2's map_server reads them: p = (255 - value) / 255, inverted by ``negate``; occupied above
    ``occupied_thresh``, free below ``free_thresh``, unknown between (modes trinary and scale). In mode raw, values
    are occupancies of 0 to 100 and the thresholds apply to value / 100.

    Raises
    ------
    InputError
        Names file, field, value and mend.
    """
    data, source = load_yaml(path), str(path)
    resolution = _number(data, "resolution", source, low=1e-4, high=100.0)
    occupied_thresh = _number(data, "occupied_thresh", source, low=0.0, high=1.0, default=0.65)
    free_thresh = _number(data, "free_thresh", source, low=0.0, high=1.0, default=0.25)
    if free_thresh >= occupied_thresh:
        raise InputError(source, "free_thresh", free_thresh, f"use less than occupied_thresh ({occupied_thresh})")
    negate = data.get("negate", 0)
    if negate not in (0, 1, False, True):
        raise InputError(source, "negate", negate, "use 0 or 1")
    mode = data.get("mode", "trinary")
    if mode not in ("trinary", "scale", "raw"):
        raise InputError(source, "mode", mode, "use trinary, scale or raw")
    origin = _origin(data, source)
    pixels = _pixels(path.parent / _image_name(data, source), source)
    darkness = pixels if negate else 255.0 - pixels
    occupancy = pixels / 100.0 if mode == "raw" else darkness / 255.0
    known = pixels <= 100 if mode == "raw" else np.ones_like(pixels, dtype=bool)
    occupied = np.flipud((occupancy > occupied_thresh) & known)
    free = np.flipud((occupancy < free_thresh) & known)
    if not free.any():
        raise InputError(source, "image", data["image"], "use an image with free (white) cells")
    return OccupancyGrid(occupied.copy(), free.copy(), resolution, origin, name=source)


def _number(
    data: dict[str, Any], field: str, source: str, *, low: float, high: float, default: float | None = None
) -> float:
    value = data.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(source, field, value, f"use a number of {low:g} to {high:g}")
    return float(value)


def _origin(data: dict[str, Any], source: str) -> tuple[float, float]:
    value = data.get("origin")
    numbers = isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
    )
    if not isinstance(value, list) or not numbers or len(value) not in (2, 3):
        raise InputError(source, "origin", value, "use [x, y, yaw] in metres and radians")
    if len(value) == 3 and abs(value[2]) > 1e-9:
        raise InputError(source, "origin", value, "turn the image so that yaw is 0: rotated maps are not read")
    return float(value[0]), float(value[1])


def _image_name(data: dict[str, Any], source: str) -> str:
    name = data.get("image")
    if not isinstance(name, str) or not name:
        raise InputError(source, "image", name, "name the image file, relative to this file")
    return name


def _pixels(image: Path, source: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        pixels = _greymap(image, source)
        return (_decoded(image, source) if pixels is None else pixels).astype(np.float64)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(source, "image", str(image), "name an image file that exists") from None
    except (OSError, ValueError) as error:
        raise InputError(source, "image", f"{image} ({error})", "use a readable PGM, PNG or BMP image") from None


def _greymap(image: Path, source: str) -> Pixels | None:
    """Return the pixels of a binary portable greymap of 8 bits, as map_server saves maps; None if the file is another.

    The format: https://netpbm.sourceforge.net/doc/pgm.html. Pillow, which reads it too, is 2 MB in each robot's node.
    """
    with image.open("rb") as file:
        found = GREYMAP.match(file.read(MAX_HEADER_BYTES))
        if found is None or int(found[3]) != WHITE:
            return None
        width, height = int(found[1]), int(found[2])
        _check_size(width, height, source)
        file.seek(found.end())
        pixels = np.frombuffer(file.read(width * height), dtype=np.uint8)
    if len(pixels) < width * height:
        raise ValueError(f"the file ends after {len(pixels)} of {width * height} pixels")
    return pixels.reshape(height, width)


def _decoded(image: Path, source: str) -> Pixels:
    """Return the pixels of an image of any other format."""
    from PIL import Image  # noqa: PLC0415 - hardly ever needed

    with Image.open(image) as opened:
        _check_size(opened.width, opened.height, source)
        return np.asarray(opened.convert("L"))


def _check_size(width: int, height: int, source: str) -> None:
    if not 0 < width * height <= MAX_CELLS:
        raise InputError(source, "image", f"{width}x{height}", f"use at most {MAX_CELLS} cells")

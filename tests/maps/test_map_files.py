import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fleet_market.adapters.map_files import load_map
from fleet_market.errors import InputError
from fleet_market.maps.roadmap import Roadmap

GOOD = {
    "image": "map.pgm",
    "resolution": "0.5",
    "origin": "[-1.0, 2.0, 0.0]",
    "negate": "0",
    "occupied_thresh": "0.65",
    "free_thresh": "0.196",
}


def write(folder: Path, **changes: str | None) -> Path:
    """A 3 x 2 map: free, unknown, wall over three free cells; fields changed or (None) left out."""
    Image.fromarray(np.array([[254, 205, 0], [254, 254, 254]], dtype=np.uint8)).save(folder / "map.pgm")
    fields = {k: v for k, v in (GOOD | changes).items() if v is not None}
    path = folder / "map.yaml"
    path.write_text("".join(f"{k}: {v}\n" for k, v in fields.items()))
    return path


def test_the_lowest_row_of_the_image_is_row_zero(tmp_path):
    grid = load_map(write(tmp_path))
    assert grid.occupied.tolist() == [[False, False, False], [False, False, True]]
    assert grid.free.tolist() == [[True, True, True], [True, False, False]]
    assert grid.centre(0, 0) == (-0.75, 2.25)
    assert grid.cell(0.4, 2.9) == (1, 2)
    assert grid.size_m == (1.5, 1.0)


def test_negate_swaps_black_and_white(tmp_path):
    grid = load_map(write(tmp_path, negate="1"))
    assert grid.occupied.tolist()[0] == [True, True, True]
    assert grid.free.tolist()[1] == [False, False, True]


@pytest.mark.parametrize(
    ("changes", "field", "mend"),
    [
        ({"resolution": "0"}, "resolution", "0.0001 to 100"),
        ({"resolution": "fine"}, "resolution", "use a number"),
        ({"free_thresh": "0.7"}, "free_thresh", "less than occupied_thresh"),
        ({"negate": "2"}, "negate", "0 or 1"),
        ({"mode": "grey"}, "mode", "trinary, scale or raw"),
        ({"origin": "[0, 0, 0.5]"}, "origin", "yaw is 0"),
        ({"origin": "[0, .nan, 0]"}, "origin", "[x, y, yaw]"),
        ({"image": "other.pgm"}, "image", "that exists"),
        ({"image": None}, "image", "name the image file"),
        ({"image": "map.yaml"}, "image", "readable PGM"),
    ],
)
def test_a_malformed_map_names_file_field_and_mend(tmp_path, changes, field, mend):
    path = write(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        load_map(path)
    assert (caught.value.source, caught.value.field) == (str(path), field)
    assert mend in caught.value.mend


def test_broken_yaml_names_the_line(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("image: map.pgm\nresolution: [0.05\norigin: 3\n")
    with pytest.raises(InputError, match="line 3"):
        load_map(path)


@pytest.mark.skipif("FLEET_MARKET_DATA" not in os.environ, reason="FLEET_MARKET_DATA is not set: no foreign maps here")
@pytest.mark.parametrize(("name", "share"), [("depot", 0.95), ("tb3_sandbox", 0.2)])
def test_maps_that_others_drew_can_be_read_and_driven(name, share):
    grid = load_map(Path(os.environ["FLEET_MARKET_DATA"]) / "maps" / f"{name}.yaml")
    roadmap = Roadmap.build(grid, clearance_m=0.35)
    main = (roadmap.component == roadmap.main_component).sum()
    assert main >= share * len(roadmap) > 0


@pytest.mark.parametrize("comment", [b"", b"# made by hand\n", b"#\n# 0.05 m/cell\n"])
def test_a_greymap_is_read_as_pillow_reads_it(tmp_path, comment):
    pixels = np.random.default_rng(1).integers(0, 256, (7, 13), dtype=np.uint8)
    (tmp_path / "map.pgm").write_bytes(b"P5\n" + comment + b"13 7\n255\n" + pixels.tobytes())
    path = tmp_path / "map.yaml"
    path.write_text("".join(f"{k}: {v}\n" for k, v in GOOD.items()))
    by_hand = load_map(path)
    with Image.open(tmp_path / "map.pgm") as opened:
        assert np.array_equal(np.asarray(opened), pixels)
        opened.save(tmp_path / "map.png")
    path.write_text(path.read_text().replace("map.pgm", "map.png"))
    by_pillow = load_map(path)
    assert np.array_equal(by_hand.occupied, by_pillow.occupied)
    assert np.array_equal(by_hand.free, by_pillow.free)


@pytest.mark.parametrize(
    ("content", "mend"),
    [
        (b"P5\n4 4\n255\n" + bytes(15), "readable PGM"),
        (b"P5\n99999 99999\n255\n", "at most 64000000 cells"),
        (b"P5\n0 4\n255\n", "at most 64000000 cells"),
        (b"P5\n4\n", "readable PGM"),
    ],
)
def test_a_broken_greymap_names_file_and_mend(tmp_path, content, mend):
    path = write(tmp_path)
    (tmp_path / "map.pgm").write_bytes(content)
    with pytest.raises(InputError, match="image") as caught:
        load_map(path)
    assert mend in caught.value.mend

from pathlib import Path

from fleet_market.adapters.map_files import load_map
from fleet_market.maps.roadmap import Roadmap
from fleet_market_sim import warehouse

MAPS = Path(__file__).parents[2] / "launch/maps"


def test_the_warehouse_in_launch_is_what_the_script_draws(tmp_path):
    warehouse.main(tmp_path)
    for name in ("warehouse.yaml", "warehouse.pgm"):
        assert (tmp_path / name).read_bytes() == (MAPS / name).read_bytes()


def test_every_free_place_of_the_warehouse_can_be_reached_and_every_aisle_is_one_lane():
    roadmap = Roadmap.build(load_map(MAPS / "warehouse.yaml"), clearance_m=0.35)
    assert set(roadmap.component) == {roadmap.main_component}
    aisle = [p for p in roadmap.xy if 7.6 < p[0] < 8.8 and 3.0 < p[1] < 6.0]
    width = max(x for x, _ in aisle) - min(x for x, _ in aisle)
    assert 0 < width < 0.6

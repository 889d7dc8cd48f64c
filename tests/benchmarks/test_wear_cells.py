import pytest

from benchmarks.wear_cells import cells_of, conditions_of, predicted_efc
from fleet_market.errors import InputError


def test_the_names_of_groups_say_how_their_cells_were_tested():
    cold = conditions_of("TJU", "Dataset_2_NCM|CY25-05_1")
    assert (cold.chemistry, cold.temperature_c, cold.charge_c, cold.discharge_c) == ("nmc", 25.0, 0.5, 1.0)
    assert conditions_of("TJU", "Dataset_3_NCM_NCA|CY25-05_4").discharge_c == 4.0
    assert conditions_of("TJU", "Dataset_1_NCA|CY25-025_1").chemistry is None
    assert conditions_of("XJTU", "3C").charge_c == 3.0
    assert conditions_of("HUST", "HUST1").chemistry == conditions_of("MIT", "2017-05-12").chemistry == "lfp"
    for source, group in (("TJU", "CY25"), ("NASA", "B0005")):
        with pytest.raises(InputError, match="add its test conditions"):
            conditions_of(source, group)


def test_cells_that_never_got_there_have_no_life(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("ds,grp,cell,n,efc90,efc80,efc_tot,r_end\nXJTU,2C,a,1,300,,1,1\nXJTU,2C,b,1,nan,500,1,1\n")
    assert [cell.efc for cell in cells_of(path)] == [{90: 300.0, 80: None}, {90: None, 80: 500.0}]


def test_a_faster_charge_is_predicted_to_cost_life():
    assert 0 < predicted_efc(conditions_of("XJTU", "3C"), 90) < predicted_efc(conditions_of("XJTU", "2C"), 90)
    assert predicted_efc(conditions_of("HUST", "HUST1"), 90) < predicted_efc(conditions_of("HUST", "HUST1"), 80)

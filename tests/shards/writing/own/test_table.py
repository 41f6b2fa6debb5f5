"""A table of one's own rasters: what it may say, and one line for everything it may not."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from geossl_data.errors import DatasetError
from geossl_data.shards.writing.own import table
from geossl_data.shards.writing.own.table import read_rows

HEADER = "place,time,sensor,path"
ROW = "p,2024-07-01,s1,a.png"


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_row_says_place_time_sensor_and_path(tmp_path: Path) -> None:
    (row,) = read_rows(written(tmp_path, f"{HEADER}\nZürich 1,2024-07-01T12:20:30+02:00,S2-MSI,x/a.tif\n"), tmp_path)
    assert (row.line, row.place, row.sensor, row.path) == (2, "Zürich 1", "s2-msi", "x/a.tif")
    assert row.time == datetime(2024, 7, 1, 10, 20, 30, tzinfo=UTC)
    assert (row.look, row.split, row.label, row.lon, row.lat, row.bands) == (None, None, "", None, None, ())


@pytest.mark.parametrize(
    "text", ["2024-07-01", "2024-07-01T00:00", "2024-07-01T00:00:00Z", "2024-06-30T22:00:00-02:00"]
)
def test_a_time_without_a_zone_is_utc(tmp_path: Path, text: str) -> None:
    (row,) = read_rows(written(tmp_path, f"{HEADER}\np,{text},s1,a.png\n"), tmp_path)
    assert row.time == datetime(2024, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_every_office_are_read(tmp_path: Path, sign: str, encoding: str, end: str) -> None:
    lines = [
        "Place,Look,sensor,path,label,split,lon,lat,bands,_mine",
        '"p",3,s1,"a, b.png",water,val,7.5,-46,VV VH,what I like',
        "",
    ]
    text = end.join(line.replace(",", sign).replace(f"a{sign} b", "a, b") for line in lines)
    (row,) = read_rows(written(tmp_path, text, encoding), tmp_path)
    assert (row.place, row.look, row.path, row.label, row.split) == ("p", 3, "a, b.png", "water", "val")
    assert (row.lon, row.lat, row.bands, row.time) == (7.5, -46.0, ("VV", "VH"), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'place'"),
        (HEADER, "no rows"),
        (f"{HEADER}\n\n  , , ,\n", "no rows"),
        (f"place,time,path\n{ROW}", "no column 'sensor'"),
        (f"place,sensor,path\n{ROW}", "neither a column 'time' nor 'look'"),
        (f"{HEADER},splt\n{ROW},val", "unknown column 'splt'; known are place"),
        (f"{HEADER},lon\n{ROW},1", "lon and lat go together"),
        (f"{HEADER},time\n{ROW},1", "comes twice"),
        (f"{HEADER}\n{ROW},more", "line 2: 5 cells where the header has 4"),
        (f"{HEADER}\n{ROW}\n,2024-07-01,s1,b.png", "line 3: no place"),
        (f"{HEADER}\np,before,s1,a.png", "time 'before' is no date or time of ISO 8601.*count a column 'look'"),
        (f"{HEADER}\np,2024,s1,a.png", "time '2024' is no date"),
        (f"{HEADER}\np,0001-01-01T00:00+05:00,s1,a.png", "is no date"),
        (f"{HEADER}\np,,s1,a.png", "neither a time nor a look"),
        (f"{HEADER}\np,2024-07-01,my.sensor,a.png", "sensor 'my.sensor' is not up to 40"),
        (f"{HEADER}\np,2024-07-01,json,a.png", "sensor 'json'"),
        (f"{HEADER}\np,2024-07-01,s1,https://host/a.tif?sig=SECRET", "an address where the path"),
        (f"{HEADER}\np,2024-07-01,s1,/vsicurl/x", "an address where the path"),
        (f"{HEADER}\np,2024-07-01,s1,../a.png", "leaves the folder of the rasters.*--rasters"),
        (f"{HEADER}\np,2024-07-01,s1,", "line 2: no path"),
        (f"{HEADER},look\n{ROW},first", "look 'first' is no whole number"),
        (f"{HEADER},split\n{ROW},training", "split 'training' is not one of train, val, test"),
        (f"{HEADER},label\n{ROW},0", "label 0: classes are counted from 1"),
        (f"{HEADER},lon,lat\n{ROW},181,0", "lon '181' is not in -180 to 180"),
        (f"{HEADER},lon,lat\n{ROW},nan,0", "lon 'nan' is not in"),
        (f"{HEADER},lon,lat\n{ROW},1,", "lon and lat go together"),
        (f"{HEADER},bands\n{ROW},a a", "a name comes twice"),
        (f'{HEADER}\np,2024-07-01,s1,"a.png', "not CSV"),
        (f"{HEADER}\n{'p' * 1001},2024-07-01,s1,a.png", "a place of 1001 characters"),
        (f"{HEADER}\n{ROW}\np,2024-07-01T00:00Z,S1,b.png", "line 3: s1 of place 'p'.*stands in line 2"),
        (f"{HEADER},split\n{ROW},val\np,2024-07-02,s1,b.png,test", "line 3: another split than in line 2"),
        (f"{HEADER},label\n{ROW},1\np,2024-07-01,s2,b.png,2", "another label"),
        (f"{HEADER},bands\n{ROW},x\nq,2024-07-01,s1,b.png,y", "another bands than in line 2 for the same sensor"),
        (f"{HEADER},lon,lat\n{ROW},1,2\np,2024-07-02,s1,b.png,1,3", "another location"),
        (f"{HEADER},look\n{ROW},1\np,2024-07-02,s1,b.png,", "another use of the column look"),
        (f"{HEADER}\n{ROW}\0", "not UTF-8 text"),
        (f"{HEADER},label\n{ROW},a|", "label 'a|': no class before or after a |"),
        (f"{HEADER},label\n{ROW},a| a", "a class comes twice"),
        (f"{HEADER},label\n{ROW},2|02", "a class comes twice"),
        (f"{HEADER},label\n{ROW},2|0", "label 0: classes are counted from 1"),
        (f"{HEADER},label\n{ROW},a|b\np,2024-07-01,s2,b.png,a", "another label than in line 2 for the same place"),
        (f"{HEADER},scale\n{ROW},much", "scale 'much' is no number of at most 1e\\+20"),
        (f"{HEADER},scale\n{ROW},nan", "scale 'nan' is no number"),
        (f"{HEADER},scale\n{ROW},1e21", "scale '1e21' is no number of at most"),
        (f"{HEADER},scale\n{ROW},0", "scale '0' leaves nothing of the numbers"),
        (f"{HEADER},offset\n{ROW},inf", "offset 'inf' is no number"),
        (f"{HEADER},units\n{ROW},{'m' * 61}", "units 'm+' are not up to 60 characters"),
        (f"{HEADER},scale\n{ROW},1\nq,2024-07-01,s1,b.png,2", "another scale than in line 2 for the same sensor"),
        (f"{HEADER},offset\n{ROW},0\nq,2024-07-01,s1,b.png,2", "another offset than in line 2 for the same sensor"),
        (f"{HEADER},units\n{ROW},m\nq,2024-07-01,s1,b.png,km", "another units than in line 2 for the same sensor"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as error:
        read_rows(written(tmp_path, text), tmp_path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "table.csv"))
    assert "SECRET" not in str(error.value)


def test_a_table_in_another_encoding_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="save the table as CSV with UTF-8"):
        read_rows(written(tmp_path, f"{HEADER}\nZürich,2024-07-01,s1,a.png\n", "latin-1"), tmp_path)


def test_no_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.csv: the table cannot be read: No such file"):
        read_rows(tmp_path / "gone.csv", tmp_path)


def test_a_table_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_NBYTES", 10)
    with pytest.raises(DatasetError, match="more than 0 MB"):
        read_rows(written(tmp_path, f"{HEADER}\n{ROW}\n"), tmp_path)


def test_a_look_may_have_several_classes(tmp_path: Path) -> None:
    text = f"{HEADER},label\n{ROW},water | 東京|a b\nq,2024-07-01,s1,b.png,7|03\nr,2024-07-01,s1,c.png,\n"
    rows = read_rows(written(tmp_path, text), tmp_path)
    assert [row.labels for row in rows] == [("water", "東京", "a b"), ("7", "3"), ()]
    assert [(row.label, row.more_labels) for row in rows[1:]] == [("7", ("3",)), ("", ())]


def test_a_row_may_say_what_its_numbers_mean(tmp_path: Path) -> None:
    text = f"{HEADER},scale,offset,units\n{ROW},1e-4,-0.1,reflectance × 1\nq,2024-07-01,s1,b.png,,,\n"
    rows = read_rows(written(tmp_path, text), tmp_path)
    assert [(row.scale, row.offset, row.units) for row in rows] == [(1e-4, -0.1, "reflectance × 1"), (None, None, "")]
    assert rows[0].where == "a.png (line 2)"


def test_a_class_may_differ_between_looks(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, f"{HEADER},label\n{ROW},1\np,2024-07-02,s1,b.png,2\n"), tmp_path)
    assert [row.label for row in rows] == ["1", "2"]

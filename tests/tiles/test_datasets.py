"""Tiles as xarray: every value at its coordinates, and a stated rule wherever a pixel is not the stored one."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geossl_data.bands import MEMBERS, S2_MEMBERS
from geossl_data.errors import ReadError
from geossl_data.records import Look, Place, Sample
from geossl_data.tiles.build import Tile, TileLook
from geossl_data.tiles.datasets import RESOLUTIONS_M, SCL_NAMES, VARIABLES, to_dataset

WEST, NORTH, EPSG = 600_000.0, 5_000_040.0, 32632
TIME = datetime(2023, 6, 1, 10, 20, 30, 24_000, tzinfo=UTC)


def arrays_of(size_px: int, look: int) -> dict[str, np.ndarray[Any, Any]]:
    """Members of a look; the pixels of a reflectance or backscatter band are all distinct."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for number, (name, member) in enumerate(MEMBERS.items()):
        shape = member.shape(size_px)
        ramp = np.arange(np.prod(shape)).reshape(shape)
        if name == "s1":
            arrays[name] = (-5 - ramp / 64 - look).astype(np.float16)
        elif name in ("scl", "label"):
            arrays[name] = (1 + (ramp + look) % 9).astype(np.uint8)
        else:
            arrays[name] = (1 + ramp + 3000 * number + 1000 * look).astype(np.uint16)
    return arrays


def tile_of(*members: dict[str, np.ndarray[Any, Any]], size_px: int = 12) -> Tile:
    """A tile of these looks, 100 days apart."""
    looks = tuple(
        Look(s2_id=f"S2_{i}", s1_id=f"S1_{i}", acquired=TIME + timedelta(days=100 * i), gap_hours=i - 0.5)
        for i in range(len(members))
    )
    place = Place(lon=10.3, lat=45.1, epsg=EPSG, x=WEST, y=NORTH, size_px=size_px, cell="0500U_0070R")
    sample = Sample(
        key="a_1",
        place=place,
        looks=looks,
        stratum="temperate",
        weight=1.0,
        inclusion_probability=0.5,
        split="train",
        block="b",
    )
    metas = [
        {
            "s2": {
                "id": look.s2_id,
                "geossl:offset_applied": -1000 if i else None,
                "geossl:cloud_fraction": 0.25 if "scl" in arrays else None,
                "assets": {"B02": "./secret/B02.tif"},
                "geossl:mosaic": [{"id": "other", "assets": {"B02": "./secret/B02.tif"}}],
            },
            "s1": {"id": look.s1_id, "assets": {"VV": "./secret/vv.tif"}},
            "pair": {"geossl:gap_hours": look.gap_hours},
        }
        for i, (look, arrays) in enumerate(zip(looks, members, strict=True))
    ]
    return Tile(
        sample=sample,
        looks=tuple(TileLook(members=arrays, meta=meta) for arrays, meta in zip(members, metas, strict=True)),
    )


def test_every_stored_value_is_at_its_coordinates() -> None:
    looks = [arrays_of(12, 0), arrays_of(12, 1)]
    dataset = to_dataset(tile_of(*looks))
    assert tuple(dataset.data_vars) == VARIABLES
    assert dict(dataset.sizes) == {"time": 2, "y": 12, "x": 12}
    assert dataset.rio.crs.to_epsg() == EPSG
    assert dataset.rio.bounds() == (WEST, NORTH - 120, WEST + 120, NORTH)
    assert (dataset.x.values[0], dataset.y.values[0]) == (WEST + 5, NORTH - 5)
    for number, arrays in enumerate(looks):
        for name in S2_MEMBERS:
            factor, side = MEMBERS[name].factor, MEMBERS[name].resolution_m
            for band, stored in zip(MEMBERS[name].bands, arrays[name], strict=True):
                assert dataset[band].dtype == np.float32
                found = dataset[band].isel(time=number).values
                np.testing.assert_array_equal(np.rint(found * 10_000)[::factor, ::factor], stored)
                row, column = stored.shape[0] - 1, 0
                point = {"x": WEST + (column + 0.3) * side, "y": NORTH - (row + 0.3) * side}
                there = dataset[band].isel(time=number).sel(point, method="nearest")
                assert round(float(there) * 10_000) == stored[row, column]
        np.testing.assert_array_equal(dataset.VV.values[number], arrays["s1"][0])
        np.testing.assert_array_equal(dataset.VH.values[number], arrays["s1"][1])
        np.testing.assert_array_equal(dataset.SCL.values[number][::2, ::2], arrays["scl"])
        np.testing.assert_array_equal(dataset.label.values[number], arrays["label"])
    assert {str(dataset[name].dtype) for name in ("SCL", "label")} == {"uint8"}
    assert {str(dataset[name].dtype) for name in ("VV", "VH")} == {"float32"}


def test_coarser_pixels_are_repeated_over_the_ground_they_cover() -> None:
    arrays = arrays_of(12, 0)
    dataset = to_dataset(tile_of(arrays), resolution_m=10).isel(time=0)
    np.testing.assert_array_equal(np.rint(dataset.B09.values * 10_000), np.kron(arrays["s2_60m"][1], np.ones((6, 6))))
    np.testing.assert_array_equal(dataset.SCL.values, np.kron(arrays["scl"], np.ones((2, 2))))
    assert dataset.B09.attrs["resampling"] == "each pixel repeated 6 × 6 times"
    assert dataset.B04.attrs["resampling"] == "none"


def test_finer_reflectance_is_the_mean_of_the_valid_pixels() -> None:
    arrays = arrays_of(12, 0)
    arrays["s2_10m"][2, :2, :2] = [[2000, 4000], [0, 6000]]
    arrays["s2_10m"][2, :2, 2:4] = 0
    arrays["s2_20m"][0, :3, :3] = 0
    dataset = to_dataset(tile_of(arrays), resolution_m=20).isel(time=0)
    assert float(dataset.B04[0, 0]) == pytest.approx(0.4)
    assert np.isnan(dataset.B04[0, 1])
    assert np.isfinite(dataset.B04.values).sum() == 35
    assert dataset.B04.attrs["resampling"] == "mean of the valid pixels of each block of 2 × 2 pixels"
    coarse = to_dataset(tile_of(arrays), resolution_m=60).isel(time=0)
    assert np.isnan(coarse.B05[0, 0])
    assert float(coarse.B05[0, 1]) == pytest.approx(arrays["s2_20m"][0, :3, 3:].mean() / 10_000)


def test_decibels_are_averaged_as_power() -> None:
    arrays = arrays_of(12, 0)
    arrays["s1"][1, :2, :2] = [[-10, np.nan], [-20, np.nan]]
    arrays["s1"][1, 2:4, :2] = np.nan
    dataset = to_dataset(tile_of(arrays), resolution_m=20).isel(time=0)
    assert float(dataset.VH[0, 0]) == pytest.approx(10 * np.log10((0.1 + 0.01) / 2))
    assert np.isnan(dataset.VH[1, 0])
    assert dataset.VH.attrs["resampling"].endswith("in linear power")


def test_classes_are_never_averaged() -> None:
    arrays = arrays_of(12, 0)
    arrays["label"][:] = 0
    arrays["label"][:2, :2] = [[9, 2], [9, 2]]
    arrays["label"][:2, 2:4] = [[0, 0], [0, 7]]
    arrays["scl"][:3, :3] = [[4, 4, 11], [11, 11, 4], [11, 0, 0]]
    dataset = to_dataset(tile_of(arrays), resolution_m=20).isel(time=0)
    np.testing.assert_array_equal(dataset.label.values[0], [2, 7, 0, 0, 0, 0])
    np.testing.assert_array_equal(dataset.SCL.values, arrays["scl"])
    coarse = to_dataset(tile_of(arrays), resolution_m=60).isel(time=0)
    assert int(coarse.SCL[0, 0]) == 11
    assert coarse.SCL.attrs["resampling"] == "most frequent class of each block of 3 × 3 pixels"


@pytest.mark.parametrize("resolution_m", RESOLUTIONS_M)
def test_a_checkerboard_of_classes_makes_no_other_class(resolution_m: int) -> None:
    arrays = arrays_of(12, 0)
    arrays["scl"] = np.where(np.indices((6, 6)).sum(axis=0) % 2, 4, 10).astype(np.uint8)
    arrays["label"] = np.where(np.indices((12, 12)).sum(axis=0) % 2, 2, 9).astype(np.uint8)
    dataset = to_dataset(tile_of(arrays), resolution_m=resolution_m)
    assert set(dataset.SCL.values.flat) <= {4, 10}
    assert set(dataset.label.values.flat) <= {2, 9}


@settings(max_examples=20)
@given(hnp.arrays(np.uint16, (4, 12, 12), elements=st.integers(0, 20_000)), st.sampled_from([20, 60]))
def test_block_means_agree_with_masked_means(stored: np.ndarray[Any, Any], resolution_m: int) -> None:
    dataset = to_dataset(tile_of(arrays_of(12, 0) | {"s2_10m": stored}), resolution_m=resolution_m)
    step = resolution_m // 10
    for band, values in zip(MEMBERS["s2_10m"].bands, np.ma.masked_equal(stored, 0), strict=True):
        found = dataset[band].values[0]
        for row, column in np.ndindex(12 // step, 12 // step):
            block = values[row * step : (row + 1) * step, column * step : (column + 1) * step]
            expected = np.nan if block.count() == 0 else block.mean() / 10_000
            np.testing.assert_allclose(found[row, column], expected, rtol=1e-6)


def test_what_one_look_lacks_is_no_data_and_what_all_lack_is_absent() -> None:
    first, second = arrays_of(12, 0), arrays_of(12, 1)
    del first["scl"], first["label"], second["label"]
    dataset = to_dataset(tile_of(first, second))
    assert "label" not in dataset
    assert not dataset.SCL.isel(time=0).values.any()
    assert dataset.SCL.isel(time=1).values.all()
    np.testing.assert_array_equal(dataset.cloud_fraction.values, [np.nan, 0.25])


def test_looks_stay_with_their_description_when_they_are_picked() -> None:
    dataset = to_dataset(tile_of(*(arrays_of(12, number) for number in range(3))))
    last = dataset.sel(time="2023-12-18").isel(time=0)
    assert (str(last.s2_id.values), str(last.s1_id.values), float(last.gap_hours)) == ("S2_2", "S1_2", 1.5)
    np.testing.assert_array_equal(dataset.offset_applied.values, [np.nan, -1000, -1000])
    assert dataset.time.values[0] == np.datetime64("2023-06-01T10:20:30.024")
    assert dataset.isel(x=slice(3, 7), y=slice(2, 4)).rio.bounds() == (WEST + 30, NORTH - 40, WEST + 70, NORTH - 20)


def test_attributes_say_what_is_measured_and_can_be_written_to_a_file() -> None:
    dataset = to_dataset(tile_of(arrays_of(12, 0)), label_names={"2": "bare ground", "10": "orchard"})
    assert dataset.B8A.attrs["wavelength_nm"] == 865
    assert dataset.B8A.attrs["units"] == "1"
    assert dataset.VV.attrs["units"] == "dB"
    assert dataset.SCL.attrs["flag_meanings"].split() == list(SCL_NAMES)
    assert dataset.label.attrs["flag_values"].tolist() == [2, 10]
    assert dataset.label.attrs["flag_meanings"] == "bare_ground orchard"
    assert dataset.attrs["attribution"] == "Contains modified Copernicus Sentinel data [2023]"
    described = [dataset.attrs, *(dataset[name].attrs for name in dataset.variables)]
    values = [value for attributes in described for value in attributes.values()]
    assert [value for value in values if not isinstance(value, str | int | float | np.ndarray)] == []


def test_provenance_tells_the_scenes_and_no_address() -> None:
    dataset = to_dataset(tile_of(arrays_of(12, 0), arrays_of(12, 1)))
    looks = json.loads(dataset.attrs["provenance"])
    assert [look["s2"]["id"] for look in looks] == ["S2_0", "S2_1"]
    assert [look["s2"]["geossl:offset_applied"] for look in looks] == [None, -1000]
    assert looks[0]["s2"]["geossl:mosaic"] == [{"id": "other"}]
    assert "secret" not in dataset.attrs["provenance"]


@pytest.mark.parametrize("resolution_m", RESOLUTIONS_M)
def test_the_smallest_place_has_a_crs_at_every_resolution(resolution_m: int) -> None:
    dataset = to_dataset(tile_of(arrays_of(6, 0), size_px=6), resolution_m=resolution_m)
    assert dict(dataset.sizes) == {"time": 1, "y": 60 // resolution_m, "x": 60 // resolution_m}
    assert dataset.rio.crs.to_epsg() == EPSG


def test_another_resolution_is_refused() -> None:
    tile = tile_of(arrays_of(12, 0))
    with pytest.raises(ReadError, match=r"resolution 30 m is not one of \(10, 20, 60\)"):
        to_dataset(tile, resolution_m=30)


def test_damaged_descriptions_become_no_number() -> None:
    tile = tile_of(arrays_of(12, 0))
    meta = {"s2": {"geossl:offset_applied": "much", "geossl:cloud_fraction": [1]}}
    dataset = to_dataset(
        replace(tile, looks=(replace(tile.looks[0], meta=meta),)), label_names={"x": "none", "999": "far", "3": "sand"}
    )
    assert np.isnan([*dataset.offset_applied.values, *dataset.cloud_fraction.values]).all()
    assert dataset.label.attrs["flag_meanings"] == "sand"

"""A study whose grid is tuned: the levels are stored with the field, and found once."""

from __future__ import annotations

import json

from helpers.folder import Folder, same_rows

TUNED = {"solver": "pc2", "steps": 3, "grid": "tuned"}


def test_tuned_levels_are_stored_with_the_field_and_used_again(folder: Folder) -> None:
    grids = {"sampler": {"grid": {"choice": ["tuned", "own"]}}}
    folder.write(sampler=TUNED, search=grids, seeds={"train": 1, "sample": 2})
    folder.run("--inline")
    rows = folder.rows()
    assert sorted(str(row["sampler_grid"]) for row in rows.values()) == ["own", "own", "tuned", "tuned"]
    assert all(row["status"] == "complete" and row["cost_nfe"] == 4 for row in rows.values())
    (field,) = folder.fields()
    (stored,) = (folder.path / "results/fields" / field / "grids").iterdir()
    levels = json.loads(stored.read_text())
    assert len(levels["log_widths"]) == 3 and 0 <= levels["share"] <= 1

    levels["log_widths"][0] += 0.5  # what is stored is what is used
    stored.write_text(json.dumps(levels))
    folder.write(name="again", sampler=TUNED, search=grids, seeds={"train": 1, "sample": 2})
    folder.run("--inline")
    again = {row["sampler_grid"]: row["metric_fid"] for row in folder.rows("again").values() if row["seed_sample"] == 0}
    first = {row["sampler_grid"]: row["metric_fid"] for row in rows.values() if row["seed_sample"] == 0}
    assert again["own"] == first["own"] and again["tuned"] != first["tuned"]

    stored.write_text("not levels")  # found anew, and they are the same
    folder.write(name="mended", sampler=TUNED, search=grids, seeds={"train": 1, "sample": 2})
    folder.run("--inline")
    same_rows(rows, folder.rows("mended"))
    assert len(list(stored.parent.iterdir())) == 2, "the damaged file is kept aside"


def test_disturbed_weights_are_sampled_at_the_levels_of_the_field_itself(folder: Folder) -> None:
    folder.write(sampler=TUNED, search=None, perturb={"weight_noise": [0.1]}, seeds={"train": 1})
    folder.run("--inline")
    (field,) = folder.fields()
    assert len(list((folder.path / "results/fields" / field / "grids").iterdir())) == 1
    assert all(row["status"] == "complete" for row in folder.rows().values())

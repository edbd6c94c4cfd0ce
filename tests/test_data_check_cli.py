"""`uadbench datasets check`, as users give it."""

from __future__ import annotations

import json
from pathlib import Path

import fake_data
from commands import uadbench, uadbench_here


def test_good_data_are_said_to_be_good_and_the_contract_runs(tmp_path: Path) -> None:
    manifest = fake_data.nifti_set(tmp_path)
    done = uadbench_here("datasets", "check", "nifti", "--root", manifest, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nifti, 6 subjects: nothing is wrong" in done.stdout
    assert "nifti keeps the contract" in done.stdout
    assert "subjects 6/6" in done.stderr
    done = uadbench_here("datasets", "check", "nifti", "--root", manifest, "--quick", cwd=tmp_path)
    assert done.returncode == 0
    assert "contract" not in done.stdout


def test_one_of_several_modalities_is_checked(tmp_path: Path) -> None:
    manifest = fake_data.nifti_set(tmp_path)
    text = manifest.read_text().replace("image", "image:t1,image:t2", 1)
    rows = [line.split(",") for line in text.splitlines()[1:]]
    for row in rows:
        row.insert(3, f"{row[0]}_t2.nii.gz")
        fake_data.nifti(tmp_path / row[3], fake_data.brain(30 + int(row[0][1:])))
    manifest.write_text("\n".join([text.splitlines()[0], *(",".join(row) for row in rows)]) + "\n")
    done = uadbench_here("datasets", "check", "nifti", "--root", manifest, "--quick", cwd=tmp_path)
    assert (done.returncode, "say which with --modality" in done.stderr) == (2, True)
    words = ("datasets", "check", "nifti", "--root", manifest, "--modality")
    (tmp_path / "s4_t2.nii.gz").write_bytes(b"")
    assert uadbench_here(*words, "t1", cwd=tmp_path).returncode == 0
    assert "E-DATA-203" in uadbench_here(*words, "t1, t2", "--quick", cwd=tmp_path).stdout
    done = uadbench_here(*words, "t2", cwd=tmp_path)
    assert (done.returncode, "E-DATA-203" in done.stdout) == (3, True)


def test_people_are_counted_where_they_have_several_entries(tmp_path: Path) -> None:
    fake_data.kaggle_3m(tmp_path / "lgg")
    done = uadbench_here("datasets", "check", "lgg", "--root", tmp_path / "lgg", "--quick", cwd=tmp_path)
    assert "lgg, 5 people in 10 entries: " in done.stdout, done.stderr


def test_errors_come_first_with_code_and_remedy_and_exit_3(tmp_path: Path) -> None:
    manifest = fake_data.nifti_set(tmp_path)
    fake_data.nifti(tmp_path / "s1.nii.gz", fake_data.brain(2))  # The image of s2, which is in val.
    fake_data.nifti(tmp_path / "s3.nii.gz", 1000 * fake_data.brain(3))
    done = uadbench_here("datasets", "check", "nifti", "--root", manifest, cwd=tmp_path)
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines[0] == "errors:"
    assert lines[1].startswith("  E-DATA-105: 1 image under two names, in two stages (s1 (train) = s2 (validation)); ")
    assert lines[2] == "warnings:"
    assert lines[3].startswith("  W-DATA-411: intensities are far from those of the others in 1 subject (s3: ")
    assert lines[-1] == "nifti, 6 subjects: 1 error, 1 warning"
    assert "Traceback" not in done.stderr


def test_a_program_can_read_it(tmp_path: Path) -> None:
    manifest = fake_data.nifti_set(tmp_path)
    done = uadbench_here("datasets", "check", "nifti", "--root", manifest, "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert (facts["errors"], facts["warnings"], facts["findings"]) == (0, 0, [])
    assert {check["outcome"] for check in facts["contract"]} == {"passed"}
    (tmp_path / "s4_lesion.nii.gz").write_bytes(b"")
    done = uadbench_here("datasets", "check", "nifti", "--root", manifest, "--json", cwd=tmp_path)
    assert done.returncode == 3
    [finding] = json.loads(done.stdout)["findings"]
    assert (finding["code"], finding["severity"]) == ("E-DATA-203", "error")
    assert finding["subjects"] == [str(tmp_path / "s4_lesion.nii.gz")]


def test_tables_without_images_are_checked(tmp_path: Path) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    for name, people in (("train", "abc"), ("val", "cd"), ("test", "e"), ("notes", "x")):
        (folder / f"{name}.csv").write_text("subject\n" + "\n".join(people) + "\n")
    done = uadbench("datasets", "check", "--splits", folder)
    assert done.returncode == 3
    assert "E-DATA-104: subject 'c' is in both train and validation; every person may be in one stage" in done.stdout
    assert "notes.csv (no train, val or test in its name; searched for repeated rows only)" in done.stdout
    assert "3 tables: 1 error, 0 warnings" in done.stdout
    facts = json.loads(uadbench_here("datasets", "check", "--splits", folder, "--json", cwd=tmp_path).stdout)
    assert [t["stage"] for t in facts["tables"]] == ["test", "train", "validation"]
    assert facts["findings"][0]["subjects"] == ["c"]
    (folder / "train.csv").write_text("subject\na\nb\n")
    (folder / "notes.csv").write_text("subject\nx\nx\n")
    done = uadbench_here("datasets", "check", "--splits", folder, cwd=tmp_path)
    assert done.returncode == 0
    assert f"W-DATA-102: 1 row of {folder / 'notes.csv'} repeat others (x): 2 rows, 1 different" in done.stdout
    (folder / "notes.csv").unlink()
    assert "1 table: " in uadbench_here("datasets", "check", "--splits", folder / "val.csv", cwd=tmp_path).stdout
    assert uadbench_here("datasets", "check", "--splits", folder, cwd=tmp_path).returncode == 0


def test_wrong_use_is_explained(tmp_path: Path) -> None:
    done = uadbench_here("datasets", "check", cwd=tmp_path)
    assert done.returncode == 2
    assert "give the name of a dataset" in done.stderr
    done = uadbench_here("datasets", "check", "nifti", "--splits", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "--splits looks at tables only" in done.stderr
    done = uadbench_here("datasets", "check", "--splits", tmp_path / "nowhere", cwd=tmp_path)
    assert done.returncode == 3
    assert "there is no" in done.stderr

"""Every shipped experiment runs from its first image to its last table in small, and says what it costs."""

import json
from pathlib import Path

import pytest
from command_line import runner

from qhybrid import catalog
from qhybrid.errors import InputError
from qhybrid.experiments.spec import experiment_toml, load_experiment
from qhybrid.experiments.study_arms import differences

NAMES = list(catalog.entries("experiments"))
SLOW = ("pneumonia_heads", "sda_qec_ablation", "sda_qec_table1", "stenosis_heads")
"""Many arms or large networks. Two of them are in the README as well, whose test runs them with --quick."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in NAMES]
)
def test_the_quick_variant_runs_from_end_to_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = load_experiment(name, quick=True)
    verb = "train" if spec.study is None else "study"
    where = [] if spec.study is None else ["--executor", "serial"]
    shown = runner(monkeypatch, capfd, tmp_path)(verb, name, "--quick", "--json", *where)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    if spec.study is None and spec.trains_generator:
        assert found["parameters"]["autoencoder"] > 0
        assert (tmp_path / found["run"] / "model.safetensors").is_file()
        return
    if spec.study is None:
        assert found["n_samples"] == 12
        assert found["experiment"] == f"{name}-quick"
        assert 0 <= found["metrics"]["auc"]["value"] <= 1
        return
    assert {arm["name"] for arm in found["arms"]} >= {arm.name for arm in spec.study.all_arms}
    assert all(run["state"] == "complete" for arm in found["arms"] for run in arm["runs"])
    assert len(found["comparisons"]) >= 1
    assert bool(found["devices"]) == (spec.study.devices is not None)
    assert found["verdict"]


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_says_what_it_is_where_it_comes_from_and_what_it_costs(name: str) -> None:
    spec = load_experiment(name)
    assert spec.description
    assert spec.source
    assert spec.cost


def test_a_quick_table_changes_nothing_unless_it_is_asked_for(tmp_path: Path) -> None:
    text = "[train]\nepochs = 9\n[quick]\ntrain.epochs = 2\ntrain.batch_size = 4\n"
    path = tmp_path / "mine.toml"
    path.write_text(text)
    plain, quick = load_experiment(str(path)), load_experiment(str(path), {"train.batch_size": 8}, quick=True)
    assert (plain.name, plain.train.epochs) == ("mine", 9)
    assert (quick.name, quick.train.epochs, quick.train.batch_size) == ("mine-quick", 2, 8)
    assert plain.quick == quick.quick == {}
    path.write_text(text.partition("[quick]")[0])
    assert not differences([load_experiment(str(path)), plain])
    assert "quick" not in experiment_toml(plain)
    assert "cost" not in experiment_toml(plain)


def test_wrong_quick_tables_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[train]\nepochs = 9\n")
    with pytest.raises(InputError, match=r"mine\.toml: has no \[quick\] table, which says what --quick makes smaller$"):
        load_experiment(str(path), quick=True)
    path.write_text("[quick]\ntrain.epoch = 2\n")
    with pytest.raises(InputError, match=r"mine\.toml, \[quick\]: unknown key 'train\.epoch'; did you mean 'epochs'"):
        load_experiment(str(path))

"""Studies with pretraining and few labels: one pretraining a seed, made first and shared; pairs that say something."""

from pathlib import Path
from typing import Any

import pytest
from tiny_study import heard, quiet, study_spec, tiny

from qhybrid.data.sources import load_dataset
from qhybrid.errors import InputError
from qhybrid.experiments.executors import Executor
from qhybrid.experiments.pretraining import pretrain
from qhybrid.experiments.runs import list_runs
from qhybrid.experiments.spec import load_experiment, override
from qhybrid.experiments.study import run_study
from qhybrid.experiments.study_arms import pairs, resolve_arms, study_hash, study_of
from qhybrid.storage import read_json

STUDY = """
[data]
source = "medmnist:IMAGES"
image_size = 32

[augment]
kind = "none"

[model]
backbone = "cnn5"
feature_dim = 4
head = "linear"

[device]
name = "qhybrid.statevector"

[train]
epochs = 1
batch_size = 4

[pretrain]
epochs = 1
batch_size = 4

[study]
seeds = [0, 1]
reference = "pretrained, 1.0"
compare = ["model.weights"]

[study.grid]
model.weights = ["none", "pretrained"]
data.label_fraction = [0.5, 1.0]
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_experiment(str(tiny(tmp_path_factory.mktemp("study"), STUDY)))


def test_arms_share_the_pretraining_of_their_seed_and_are_tested_in_pairs(spec: Any, tmp_path: Path) -> None:
    console = quiet()
    done = run_study(spec, out=tmp_path / "studies", executor=Executor("serial"), console=console)
    made = sorted((tmp_path / "pretrained" / "tiny").iterdir())
    assert [len(list(each.glob("backbone.safetensors"))) for each in made] == [1, 1]
    assert {read_json(each / "pretraining.json")["seed"] for each in made} == {0, 1}
    assert {read_json(each / "pretraining.json")["n_images"] for each in made} == {8}  # all, with or without labels
    said = heard(console)
    assert said.index("[pretraining 2/2]") < said.index("[1/8]")
    for run in list_runs(done.path / "runs"):
        seed = run.spec.train.seed
        if run.spec.model.weights == "none":
            assert "pretrained" not in run.data
            continue
        (mine,) = (each for each in made if read_json(each / "pretraining.json")["seed"] == seed)
        assert run.data["pretrained"]["path"] == str(mine)
    arms = {arm["name"]: arm["training_images"]["real"] for arm in done.results["arms"]}
    assert arms["none, 0.5"] == {"class 0": 2, "class 1": 2}
    assert arms["none, 1.0"] == {"class 0": 4, "class 1": 4}
    assert len({run.data["fingerprint"] for run in list_runs(done.path / "runs")}) == 1
    tested = {(each["arm"], each["against"]): each["changed"] for each in done.results["comparisons"]}
    assert tested == {(f"none, {share}", f"pretrained, {share}"): ["model.weights"] for share in (0.5, 1.0)}
    again = quiet()
    run_study(spec, out=tmp_path / "studies", console=again)
    assert "pretraining" not in heard(again)


@pytest.mark.slow
def test_a_study_finds_what_was_pretrained_and_ends_the_same_wherever_it_runs(spec: Any, tmp_path: Path) -> None:
    small = override(spec, {"study.seeds": [1], "study.grid": {"model": {"weights": ["none", "pretrained"]}},
                            "study.reference": "pretrained"})  # fmt: skip
    runs = []
    alone = override(small, {"train.seed": 1})
    made = pretrain(alone, load_dataset(alone.data), root=tmp_path / "serial" / "pretrained" / "tiny", console=quiet())
    for kind in ("serial", "processes"):
        done = run_study(small, out=tmp_path / kind / "studies", executor=Executor(kind, 2), console=quiet())
        runs.append([(run.path / "model.safetensors").read_bytes() for run in list_runs(done.path / "runs")])
    assert sorted(runs[0]) == sorted(runs[1])
    assert list(made.path.parent.iterdir()) == [made.path]


def test_pairs_are_of_the_settings_that_are_to_be_compared() -> None:
    spec = load_experiment("ssl_pqc")
    found = [(pair.arm, pair.against) for pair in pairs(study_of(spec))]
    for share in (0.01, 0.05, 0.1, 0.25, 1.0):
        assert (f"none, quantum, {share}", f"pretrained, quantum, {share}") in found
        assert (f"pretrained, mlp, {share}", f"pretrained, quantum, {share}") in found
        assert (f"none, mlp, {share}", f"none, quantum, {share}") in found
        assert (f"none, mlp, {share}", f"pretrained, mlp, {share}") in found
    assert len(found) == 20
    without = override(spec, {"study.compare": []})
    assert {(pair.arm, pair.against) for pair in pairs(study_of(without))} > set(found)
    assert study_hash(spec) == study_hash(without)


def test_an_arm_may_have_its_own_pretraining_and_labels_but_no_other_images() -> None:
    arms = [{"name": "a"}, {"name": "b", "pretrain": {"temperature": 0.1}, "data": {"label_fraction": 0.5}}]
    first, second = resolve_arms(study_spec(arms=arms))
    assert (first.spec.pretrain, second.spec.pretrain.temperature) == (None, 0.1)
    with pytest.raises(InputError, match=r"only data.transforms and data.label_fraction may differ"):
        resolve_arms(study_spec(arms=[{"name": "a"}, {"name": "b", "data": {"image_size": 64}}]))
    with pytest.raises(ValueError, match=r"study.compare names 'model.heads', .*; did you mean 'model.head'"):
        study_spec(grid={"model": {"head": ["quantum", "mlp"]}}, compare=["model.heads"])

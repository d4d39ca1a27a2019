import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qhybrid import catalog
from qhybrid.errors import InputError
from qhybrid.experiments.spec import ExperimentSpec, experiment_toml, load_experiment, override, parse_setting


@pytest.mark.parametrize("name", catalog.entries("experiments"))
def test_every_shipped_experiment_is_valid_and_says_what_it_is(name: str) -> None:
    spec = load_experiment(name)
    assert spec.name == name
    assert spec.description
    assert spec.source


def test_sda_qec_has_the_settings_of_the_paper() -> None:
    spec = load_experiment("sda_qec")
    train = spec.train
    assert (train.epochs, train.batch_size, train.learning_rate) == (30, 16, 1e-4)
    assert (train.betas, train.weight_penalty, train.patience) == ((0.9, 0.999), 1e-4, 5)
    assert (spec.data.image_size, spec.data.transforms) == (224, [])
    assert (spec.model.backbone, spec.model.feature_dim, spec.model.circuit) == ("mobilenet_v2", 256, "sda_qec")
    assert (spec.augment.kind, spec.augment.rho, spec.augment.steps) == ("diffusion", 0.7, 5)


def test_a_resolved_experiment_survives_its_own_file(tmp_path: Path) -> None:
    spec = override(ExperimentSpec(), {"device.shots": 100, "train.loggers": ["csv", "tensorboard"]})
    (tmp_path / "config.toml").write_text(experiment_toml(spec), encoding="utf-8")
    assert catalog.parse(ExperimentSpec, catalog.load_toml(tmp_path / "config.toml"), "config.toml") == spec


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.epochs=3", "train.epochs", 3),
        ("train.learning_rate=1e-3", "train.learning_rate", 1e-3),
        ("data.drop_leaks=true", "data.drop_leaks", True),
        ('data.transforms=["flip"]', "data.transforms", ["flip"]),
        ("model.head=linear", "model.head", "linear"),
        ("data.source=folder:/a=b", "data.source", "folder:/a=b"),
        ("device.shots=none", "device.shots", "none"),
    ],
)
def test_settings_are_toml_values_or_else_text(text: str, key: str, value: Any) -> None:
    assert parse_setting(text) == (key, value)


def test_shots_and_noise_can_be_taken_away_again() -> None:
    spec = override(ExperimentSpec(), {"device.shots": 100})
    assert override(spec, {"device.shots": "none"}).device.shots is None


def test_overrides_leave_the_rest_alone() -> None:
    changed = load_experiment("sda_qec", {"train.epochs": 2, "model.head": "linear"})
    assert (changed.train.epochs, changed.model.head) == (2, "linear")
    assert changed.train.learning_rate == load_experiment("sda_qec").train.learning_rate


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.epoch", 3, "command line: unknown key 'train.epoch'; did you mean 'epochs'"),
        ("trian.epochs", 3, "command line: unknown key 'trian'; did you mean 'train'"),
        ("train.epochs", "many", "command line: key 'train.epochs' is 'many'"),
        ("train.epochs.x", 3, "command line: unknown key 'train.epochs.x'; 'epochs' is a single value"),
        ("train.batch_size", 1, "key 'train.batch_size' is 1"),
        ("model.head", "quantom", "key 'model.head' is 'quantom'"),
        ("model.weights", "imagenett", "did you mean 'imagenet'"),
        ("device.shots", 0, "key 'device.shots"),
        ("model.circuit", "angel_4q", "unknown circuit 'angel_4q'; did you mean 'angle_4q'"),
        ("name", "../elsewhere", "key 'name'"),
    ],
)
def test_a_wrong_setting_is_one_line_with_the_nearest_right_one(key: str, value: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_experiment("quickstart", {key: value})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[train]\nepoch = 3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.toml: unknown key 'train\.epoch'; did you mean 'epochs'"):
        load_experiment(str(path))


def test_an_unknown_experiment_names_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown experiment 'quickstrat'; did you mean 'quickstart'"):
        load_experiment("quickstrat")


def test_a_file_name_that_cannot_name_a_folder_is_made_to(tmp_path: Path) -> None:
    (tmp_path / "my first try.toml").write_text("", encoding="utf-8")
    assert load_experiment(str(tmp_path / "my first try.toml")).name == "my-first-try"


def test_the_commented_example_of_the_guide_is_valid() -> None:
    guide = Path(__file__).parents[1] / "experiments" / "README.md"
    example, pretraining, *studies = re.findall(r"```toml\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    spec = catalog.parse(ExperimentSpec, tomllib.loads(example), str(guide))
    pretrained = catalog.parse(ExperimentSpec, tomllib.loads(pretraining), str(guide)).pretrain
    assert pretrained is not None
    assert pretrained.angiography.view == "crop"
    arms, grid, *further = studies
    for study in (arms, grid, *(arms + table for table in further)):
        assert catalog.parse(ExperimentSpec, tomllib.loads(study), str(guide)).study is not None
    assert (spec.model.angle_spread, spec.train.schedule) == (0.3, "cosine")

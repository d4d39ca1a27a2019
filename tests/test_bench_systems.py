"""`qhybrid bench --experiments` times steps that train, each beside one without its quantum block."""

import json
from pathlib import Path

import pytest
from command_line import runner

from qhybrid.bench_systems import run_system_bench
from qhybrid.errors import InputError


def test_each_network_with_a_circuit_is_timed_beside_its_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capfd, tmp_path)
    found = json.loads(run("bench", "--experiments", "hqcnn", "--repeats", "2", "--json").stdout)
    assert [row["part"] for row in found["timings"]] == ["hqcnn", "expectation values"]
    for row in found["timings"]:
        assert len(row["quantum"]) == len(row["twin"]) == 2
        low, high = sorted(a / b - 1 for a, b in zip(row["quantum"], row["twin"], strict=True))
        assert row["added"] == pytest.approx((low + high) / 2)
    shown = run("bench", "--experiments", "hqcnn", "--repeats", "1").stdout
    assert "expectation values" in shown
    assert "a training step on qhybrid.statevector, median of 1 rounds" in shown


@pytest.mark.parametrize("transforms", [[], ["flip"]])
def test_both_networks_of_a_generator_are_timed_whatever_the_denoiser_is_given(
    tmp_path: Path, transforms: list[str]
) -> None:
    path = tmp_path / "generator.toml"
    path.write_text(f"[data]\nimage_size = 32\n[generator]\nbatch_size = 4\ntransforms = {json.dumps(transforms)}\n")
    assert [each.part for each in run_system_bench([str(path)], repeats=1).timings] == ["autoencoder", "denoiser"]


def test_what_cannot_be_timed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="repeats 0 must be at least 1"):
        run_system_bench(["hqcnn"], repeats=0)
    with pytest.raises(InputError, match="did you mean 'hqcnn'"):
        run_system_bench(["hqcn"])
    classical = tmp_path / "classical.toml"
    classical.write_text('[model]\nhead = "linear"\n')
    with pytest.raises(InputError, match="has no quantum block whose time could be told"):
        run_system_bench([str(classical)])

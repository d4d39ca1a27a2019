"""Reports on ISA circuits in words."""

from dataclasses import replace

from qhybrid.circuits.isa import IsaReport, percent, verdict, worst


def test_the_verdict_is_a_sentence_with_a_level() -> None:
    report = IsaReport(8, 1202, 412, "ecr", 887, 2.5e-4, 0.0204, 3)
    assert verdict(report, "sda_qec", "ibm_brisbane") == (
        "sda_qec on ibm_brisbane: 412 ECR, success probability 2 %: expectation values will carry almost no signal"
    )
    levels = [replace(report, survival=p).level for p in (1.0, 0.5, 0.499, 0.1, 0.099, 0.0)]
    assert levels == ["survives", "survives", "partly", "partly", "hardly", "hardly"]
    assert [percent(p) for p in (0.93, 0.0021, 1e-9)] == ["93 %", "0.2 %", "below 0.001 %"]
    assert worst([report, replace(report, survival=0.9)]) is report

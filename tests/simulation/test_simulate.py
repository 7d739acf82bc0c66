import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reefleet.cli import main
from reefleet.settings import load
from reefleet.simulation.config import Experiment
from reefleet.simulation.methods import METHODS
from reefleet.simulation.study import study

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
EXPERIMENT = """\
name = "tiny"
methods = [{methods}]
seeds = [0, 1]
rates = [0.05]

[data]
kind = "digits"
samples = 180
partition = "dirichlet"
alpha = 1.0
clients = 4

[model]
width = 16
heads = 2
depth = 2
exits = [1, 2]

[rounds]
total = {rounds}
per_round = 2
evaluate_every = 1

[training]
relax_epochs = 1
finetune_epochs = 1
"""


def written(folder: Path, methods: str, rounds: int) -> Path:
    path = folder / "tiny.toml"
    path.write_text(EXPERIMENT.format(methods=methods, rounds=rounds))
    return path


def arguments(experiment: Path, out: Path) -> list[str]:
    return ["simulate", str(experiment), "--out", str(out), "--quiet"]


def figures(out: Path) -> dict[str, Any]:
    """Every run's figures, without the time it took."""
    return {
        path.parent.name: {k: v for k, v in json.loads(path.read_bytes()).items() if k != "seconds"}
        for path in out.glob("tiny/*/result.json")
    }


def stop_at(words: str) -> Callable[[str], None]:
    def show(line: str) -> None:
        if words in line:
            raise KeyboardInterrupt

    return show


def test_a_killed_run_goes_on_to_the_same_digits(tmp_path: Path) -> None:
    experiment = written(tmp_path, '"depthfl-dyn", "quped"', 3)
    experiment.write_text(experiment.read_text().replace("[0, 1]", "[0]", 1))
    assert main(arguments(experiment, tmp_path / "whole")) == 0
    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        study(
            load(Experiment, experiment),
            tmp_path,
            cut / "tiny",
            stop_at("dyn-rate0.05-seed0 round 2"),
        )
    command = [sys.executable, "-m", "reefleet", *arguments(experiment, cut)]
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    begun = cut / "tiny" / "quped-rate0.05-seed0" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < deadline and child.poll() is None:
        pass
    child.kill()
    child.wait()
    assert begun.exists()
    assert not begun.with_name("result.json").exists()
    assert main(arguments(experiment, cut)) == 0
    assert figures(cut) == figures(tmp_path / "whole")
    assert len(figures(cut)) == 2


def test_the_table_says_mean_and_deviation_and_the_files_lie_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = '"exclusivefl", "inclusivefl", "fedavg-finetune", "local"'
    experiment = written(tmp_path, methods, 2)
    assert main(arguments(experiment, tmp_path)) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("method")
    assert [line.split()[0] for line in shown[1:]] == methods.replace('"', "").split(", ")
    assert "±" in shown[1]
    summary = json.loads((tmp_path / "tiny" / "summary.json").read_bytes())
    assert set(summary["methods"]["local"]) == {"personal_test", "personal_test_deepest", "runs"}
    assert (tmp_path / "tiny" / "summary.png").stat().st_size > 1000
    lines = (tmp_path / "tiny" / "inclusivefl-rate0.05-seed0" / "metrics.jsonl").read_text()
    assert [json.loads(line)["round"] for line in lines.splitlines()] == [1, 2]


@pytest.mark.parametrize("trained", ["full", "frozen", "lora"])
def test_every_method_runs_with_each_trained_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: str
) -> None:
    names = [n for n, m in METHODS.items() if trained == "full" or m.answers == "shared"]
    names += ["quped@float", "lsq@1"] if trained == "full" else []
    experiment = written(tmp_path, ", ".join(f'"{name}"' for name in names), 1)
    text = experiment.read_text().replace("[0, 1]", "[0]", 1)
    experiment.write_text(text.replace("depth = 2", f'depth = 2\ntrained = "{trained}"'))
    assert main(arguments(experiment, tmp_path)) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == names


def test_another_experiment_does_not_go_on_with_these_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(written(tmp_path, '"fedavg"', 1), tmp_path)) == 0
    assert main(arguments(written(tmp_path, '"fedavg"', 2), tmp_path)) == 78
    assert "another experiment" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('methods = ["magic"]', "magic"),
        ('partition = "moon"', "moon"),
        ("exits = [1, 9]", "9"),
        ("clients = 90", "90"),
    ],
)
def test_a_wrong_value_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    experiment = written(tmp_path, '"fedavg"', 1)
    key = line.partition(" ")[0]
    text = [line if old.startswith(key) else old for old in experiment.read_text().splitlines()]
    experiment.write_text("\n".join(text))
    assert main(arguments(experiment, tmp_path)) > 0
    assert said in capsys.readouterr().err

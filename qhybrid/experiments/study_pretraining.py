"""The pretrainings of a study, before its trainings: one for each seed and setting, shared by all arms."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from qhybrid.errors import InputError, Interrupted
from qhybrid.experiments.executors import Executor
from qhybrid.experiments.pretraining import pretrain
from qhybrid.experiments.spec import pretrain_spec
from qhybrid.experiments.study_runs import ArmTask
from qhybrid.experiments.training_data import load_data


def pretrain_first(tasks: Sequence[ArmTask], executor: Executor, console: Console) -> None:
    """Pretrain what trainings will start from, each once; what is there already is found.

    One that fails is no error here: every training that starts from it tells.

    Args:
        tasks: The trainings; those with other first weights are left out.
        executor: Where pretrainings run, each on one thread.
        console: Where is said what is done.

    Raises:
        InputError: As in `pretrain`.
        Interrupted: By the user.
    """
    asking = [task for task in tasks if task.spec.model.weights == "pretrained" and not begun(task)]
    chosen = list({_settings(task): task for task in reversed(asking)}.values())[::-1]
    for number, (_, said) in enumerate(executor.run(pretrain_arm, chosen), 1):
        line = f"[pretraining {number}/{len(chosen)}] {said}"
        console.print(escape(line), highlight=False, soft_wrap=True)


def pretrain_arm(task: ArmTask) -> str:
    """Pretrain the CNN of a training; returns what is said of it."""
    quiet = Console(file=io.StringIO())
    where = f"seed {task.seed}"
    try:
        dataset, _ = load_data(task.spec, quiet)
        found = pretrain(task.spec, dataset, root=Path(task.pretrained), console=quiet)
    except (InputError, Interrupted):
        raise
    except Exception as error:  # it diverged, no more memory
        return f"{where}: failed ({type(error).__name__}: {' '.join(str(error).split())})"
    described = found.description
    leaks = "".join(f"; {leak}" for leak in described["leaks"])
    return (
        f"{where}: {described['method']} on {described['n_images']} images, {described['epochs']} epochs, "
        f"{described['seconds']:.0f} s in {found.path}{leaks}"
    )


def begun(task: ArmTask) -> bool:
    """Whether a training is past its first epoch, and so has weights of its own."""
    run = task.run()
    return run is not None and run.last_checkpoint.is_file()


def _settings(task: ArmTask) -> str:
    """Equal where two trainings start from the same weights."""
    spec = task.spec
    images = spec.data.model_dump(mode="json", exclude={"label_fraction"})
    told = [images, pretrain_spec(spec).model_dump(mode="json"), spec.model.backbone, spec.train.betas, task.seed]
    return json.dumps(told, sort_keys=True)

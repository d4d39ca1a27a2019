"""Find, list and load descriptions by name: the user's ./<folder> first, then the shipped ones."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from qhybrid.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

    SpecT = TypeVar("SpecT", bound=BaseModel)

Kind = Literal["circuits", "noise_models", "devices", "experiments"]
KINDS: tuple[Kind, ...] = ("circuits", "noise_models", "devices", "experiments")
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "circuits": (".toml", ".qasm"),
    "noise_models": (".toml",),
    "devices": (".toml",),
    "experiments": (".toml",),
}
FOLDER_FILES: dict[Kind, str] = {"noise_models": "conf_*.json"}
"""What a folder holds that is a description as a whole: calibration snapshots."""
WORDS: dict[Kind, str] = {
    "circuits": "circuit",
    "noise_models": "noise model",
    "devices": "device",
    "experiments": "experiment",
}


def folders(kind: Kind) -> list[Path]:
    """The folders that hold descriptions of this kind, the user's own first."""
    package = Path(__file__).resolve().parent
    shipped = package / "shipped" / kind  # inside a wheel
    if not shipped.is_dir():
        shipped = package.parent / kind  # an editable install or a checkout
    own = Path.cwd() / kind
    return [own, shipped] if own.is_dir() and own != shipped else [shipped]


def entries(kind: Kind) -> dict[str, Path]:
    """Every description of this kind: name -> file or folder, a user's own hiding a shipped one of its name."""
    found: dict[str, Path] = {}
    for folder in folders(kind):
        for path in sorted(folder.glob("*")):
            if path.suffix in SUFFIXES[kind] and path.is_file():
                found.setdefault(path.stem, path)
            elif is_folder_entry(path, kind):
                found.setdefault(path.name, path)
    return dict(sorted(found.items()))


def is_folder_entry(path: Path, kind: Kind) -> bool:
    """Whether a folder is a description of this kind as a whole."""
    return kind in FOLDER_FILES and path.is_dir() and any(path.glob(FOLDER_FILES[kind]))


def is_path(name: str, kind: Kind) -> bool:
    """Whether a name given by the user is meant as a path rather than a catalog name."""
    suffixes = (*SUFFIXES[kind], *([".json"] if kind in FOLDER_FILES else []))
    return "/" in name or "\\" in name or name.endswith(suffixes)


def find(kind: Kind, name: str, *, also: tuple[str, ...] = ()) -> Path:
    """Find a description by its catalog name or its path.

    Args:
        kind: Which catalog.
        name: A catalog name (`angle_4q`) or a path (`./mine/angle.toml`).
        also: Names that are allowed besides those of the files; only used to word the error.

    Returns:
        The path of the file, or of the folder of a snapshot.

    Raises:
        InputError: There is no such description; says the nearest one.
    """
    if is_path(name, kind):
        path = Path(name).expanduser()
        if not path.is_file() and not is_folder_entry(path, kind):
            near = did_you_mean(path.name, [entry.name for entry in path.parent.glob("*")][:40])
            raise InputError(f"{WORDS[kind]} file {name!r} does not exist; {near}")
        return path
    found = entries(kind)
    if name not in found:
        raise InputError(f"unknown {WORDS[kind]} {name!r}; {did_you_mean(name, [*found, *also])}")
    return found[name]


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: The file cannot be read or is not TOML; says the file and the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def none_as_text(value: Any) -> Any:
    """None for the word `none`: TOML has no null, and `--set device.shots=none` takes shots away again."""
    return None if isinstance(value, str) and value.lower() == "none" else value


def parse(spec: "type[SpecT]", values: dict[str, Any], where: str) -> "SpecT":
    """Validate values against a pydantic model, with an error of one line.

    Args:
        spec: The pydantic model; unknown keys are errors (`extra="forbid"`).
        values: What the file or the caller gave.
        where: The file or the caller, for the error.

    Raises:
        InputError: Names the first key that is wrong, what is allowed there and the nearest valid key.
    """
    from pydantic import ValidationError

    try:
        return spec.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        # A misspelt key is also a missing one: the misspelling says more.
        problem = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
        keys = problem["loc"]
        key = ".".join(str(part) for part in keys)
        if problem["type"] == "extra_forbidden":
            allowed = _keys_at(spec, keys[:-1])
            hint = did_you_mean(str(keys[-1]), allowed)
            raise InputError(f"{where}: unknown key {key!r}; {hint}") from None
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] in ("value_error", "missing"):
            at = f"key {key!r}: " if key else ""
            raise InputError(f"{where}: {at}{message[0].lower() + message[1:]}") from None
        raise InputError(f"{where}: key {key!r} is {problem['input']!r}: {message[0].lower() + message[1:]}") from None


def _keys_at(spec: "type[BaseModel]", location: tuple[Any, ...]) -> list[str]:
    """The field names of the model that sits at a location inside another model."""
    from pydantic import BaseModel

    model: type[BaseModel] = spec
    for part in location:
        if isinstance(part, int):  # a place in a list
            continue
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        possible = (annotation, *get_args(annotation))  # such as `Zne | None`
        models = [each for each in possible if isinstance(each, type) and issubclass(each, BaseModel)]
        if len(models) != 1:
            return []
        model = models[0]
    return sorted(field.alias or name for name, field in model.model_fields.items())

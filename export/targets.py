"""Which forms of a sub-model a board is given, and which are refused, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devices.catalog import Board
from export.runtimes import LITERT, ONNX, TENSORRT
from export.tensorrt import PARSERS, Parser, parser_of
from reefleet.errors import ConfigError

FORMATS = {"onnx": ONNX, "tflite": LITERT, "tensorrt": TENSORRT}
FORMS = ("float32", "int8", "packed", "int4")
_DEFAULT_FORMS = {"onnx": ("packed",), "tflite": ("int8",)}
_STAGED = {"onnx": False, "tflite": True}  # the chain for onnxruntime is the bundle's stages
_REFUSED = {
    ("onnx", "int4"): "onnxruntime multiplies 4-bit weights no faster than float ones; "
    "the packed form carries 4 bits a weight and multiplies int8",
    ("tflite", "packed"): "TFLite folds no constants and would unpack the weights on every run",
}


@dataclass(frozen=True, slots=True)
class Form:
    """One variant to build: a runtime, how weights are held, one graph or the chain of stages."""

    format: str
    form: str
    staged: bool

    @property
    def name(self) -> str:
        """Its name in the manifest."""
        return f"{self.format}-{self.form}" + ("-stages" if self.staged else "")

    @property
    def runtime(self) -> str:
        """What opens its files."""
        return FORMATS[self.format]


@dataclass(frozen=True, slots=True)
class Target:
    """What is built for a board; `parser` where TensorRT is among the formats."""

    board: str
    forms: tuple[Form, ...]
    parser: Parser | None = None


def target_for(
    board: Board | None, formats: Sequence[str], forms: Sequence[str], jetpack: str = ""
) -> Target:
    """The forms for a board (None: for no board in particular), or those asked for.

    Raises ConfigError for a format or form that the board or the runtime has no use for.
    """
    chosen = tuple(dict.fromkeys(formats)) or _usual(board)
    _require_fitting(board, chosen)
    found: list[Form] = []
    parser = None
    for name in chosen:
        if name == "tensorrt":
            parser = _parser(board, jetpack)
            kinds = ("qdq", "float32") if parser.int8 else ("float32",)
            found += [Form(name, kind, staged) for kind in kinds for staged in (False, True)]
            continue
        for form in _forms(name, forms, chosen):
            found.append(Form(name, form, staged=False))
            if _STAGED[name]:
                found.append(Form(name, form, staged=True))
    return Target(board.id if board else "", tuple(found), parser)


def _forms(name: str, asked: Sequence[str], formats: Sequence[str]) -> Sequence[str]:
    if not asked:
        return _DEFAULT_FORMS[name]
    fitting = [form for form in dict.fromkeys(asked) if (name, form) not in _REFUSED]
    refused = [form for form in asked if (name, form) in _REFUSED]
    others = [other for other in formats if other not in {name, "tensorrt"}]
    for form in refused:
        # A form that suits another format of the same command is meant for that one.
        if not any((other, form) not in _REFUSED for other in others):
            msg = f"no {form} form for {name}: {_REFUSED[name, form]}"
            raise ConfigError(msg)
    return fitting or _DEFAULT_FORMS[name]


def _usual(board: Board | None) -> tuple[str, ...]:
    if board is None:
        return ("onnx",)
    if not board.jetpack:
        return ("onnx", "tflite")
    return ("tensorrt",) if _python_too_old(board) else ("onnx", "tensorrt")


def _require_fitting(board: Board | None, formats: Sequence[str]) -> None:
    if board is None or not _python_too_old(board):
        return
    for name in formats:
        if name != "tensorrt":
            msg = (
                f"{board.id} runs JetPack 4 with Python 3.6, for which {FORMATS[name]} has no "
                "wheel; build --format tensorrt"
            )
            raise ConfigError(msg)


def _python_too_old(board: Board) -> bool:
    return board.jetpack == ("4",)


def _parser(board: Board | None, jetpack: str) -> Parser:
    if board is not None:
        return parser_of(board, jetpack)
    if jetpack not in PARSERS:
        msg = f"TensorRT needs --device, or --jetpack with one of {', '.join(PARSERS)}"
        raise ConfigError(msg)
    return PARSERS[jetpack]

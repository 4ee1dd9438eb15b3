"""Errors as one sentence: the subject and its state, what was found, what was expected, and the fix."""


class VidiffError(Exception):
    """A clear error: printed as one sentence on stderr, exit code 1, no traceback.

    `what` names the subject and its state; `found`, `expected` and `fix` complete the sentence where they are known.
    """

    def __init__(self, what: str, *, found: object = None, expected: object = None, fix: str | None = None) -> None:
        self.what, self.found, self.expected, self.fix = what, found, expected, fix
        middle = [f"found {found}"] if found is not None else []
        middle += [f"expected {expected}"] if expected is not None else []
        sentence = ": ".join([what.rstrip(". "), ", ".join(middle)]) if middle else what.rstrip(". ")
        super().__init__(f"{sentence}; {fix.rstrip('. ')}." if fix else f"{sentence}.")


class UsageError(VidiffError):
    """Flags or settings that are invalid or cannot be combined: exit code 2."""


class BrokenGraphError(VidiffError, RuntimeError):
    """Reconstruction guidance was given a denoiser whose output does not depend on z through autograd."""


def error_sentence(error: Exception, *, verbose: bool = False) -> str:
    """One sentence for any error."""
    if isinstance(error, VidiffError):
        return str(error)
    kind = type(error).__name__
    if kind == "OutOfMemoryError":  # torch's; named, not imported, so that printing an error never loads torch
        first = str(error).split(". ")[0]
        return f"{first}: use a smaller size, fewer frames or a smaller batch, or --device cpu."
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the latter: torch on the CPU
        return "out of memory: use a smaller size, fewer frames or a smaller batch."
    if "does not have a deterministic implementation" in str(error):  # torch's; its first word is the operation
        operation = str(error).split(maxsplit=1)[0]
        return f"--deterministic: CUDA has no such algorithm for {operation}; leave it out, or use --device cpu."
    if isinstance(error, OSError) and error.strerror:
        name = f" {error.filename}" if error.filename is not None else ""
        return f"cannot use{name}: {error.strerror.lower()}." if name else f"{error.strerror.lower()}."
    what = " ".join(str(error).split())
    fix = "" if verbose else "; run again with --verbose for the traceback"
    return f"unexpected {kind}{': ' + what.rstrip('. ') if what else ''}{fix}."

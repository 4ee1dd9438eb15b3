"""Every error a user can meet: what, what was found, what was expected, and the fix, in one sentence."""


class VidiffError(Exception):
    """A clear error: printed as one sentence on stderr, exit code 1, no traceback.

    `what` names the thing; `found`, `expected` and `fix` complete the sentence where they are known.
    """

    def __init__(self, what: str, *, found: object = None, expected: object = None, fix: str | None = None) -> None:
        self.what, self.found, self.expected, self.fix = what, found, expected, fix
        middle = [f"found {found}"] if found is not None else []
        middle += [f"expected {expected}"] if expected is not None else []
        sentence = ": ".join([what.rstrip(". "), ", ".join(middle)]) if middle else what.rstrip(". ")
        super().__init__(f"{sentence}; {fix.rstrip('. ')}." if fix else f"{sentence}.")


class UsageError(VidiffError):
    """Flags or settings that cannot go together: exit code 2."""


class BrokenGraphError(VidiffError, RuntimeError):
    """Reconstruction guidance was given a denoiser whose output does not depend on z through autograd."""

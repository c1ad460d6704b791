"""Whatever goes wrong, as one plain sentence and one next step; tracebacks go to Slicer's error log only."""

import logging

from MedAELib import errors


def plain(error):
    """Any exception as a MedAEError."""
    from MedAELib.worker.failures import explain

    if not isinstance(error, (errors.MedAEError, OSError, MemoryError)):
        logging.error("MedAE: unexpected fault", exc_info=error)
    return explain(error)


def reported(kind, sentence, nextStep):
    """The MedAEError that the worker reported."""
    known = {found.kind: found for found in errors.MedAEError.__subclasses__()}
    return known.get(kind, errors.InternalFault)(sentence, nextStep)


def sentences(error):
    """What the user reads: what is wrong, and what to do."""
    return f"{error} {error.next_step}".strip()


def guarded(make, *arguments):
    """Call `make`; what the disk refuses becomes a MedAEError."""
    try:
        return make(*arguments)
    except OSError as error:
        raise plain(error) from None

"""Several kinds of scan of one subject: as the channels of one volume, in a model's order, and told by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .bundle import Spec, fused_number, fuses
from .errors import BadInput
from .naming import told_kind, told_kinds
from .volume import Volume


def names_of(spec: Spec) -> tuple[str, ...]:
    """The names of the channels that a model fuses, in their order; none where it fuses nothing or does not say."""
    return spec.modalities or (tuple(kind.name for kind in spec.kinds) if fuses(spec) else ())


def fused_names(spec: Spec) -> tuple[str, ...]:
    """The same, but numbers from 1 on where a model that fuses does not say; none for a model that sees one scan."""
    names = names_of(spec) or tuple(str(n + 1) for n in range(fused_number(spec)))
    return names if len(names) > 1 else ()


def own_name(name: str, names: Sequence[str]) -> str:
    """What a model calls a kind of scan that is named in any case of letters; the name itself where it has none."""
    return name if name in names else next((own for own in names if own.casefold() == name.casefold()), name)


def fused(named: Mapping[str, Volume], kinds: Sequence[str]) -> Volume:
    """Volumes by name as the channels of one, in the order of the kinds; no finite numbers where there is no volume.

    Raises BadInput, as the end of a sentence on the subject, where the names do not tell the kinds apart or the volumes
    are not on one grid.
    """
    told = {name: told_kind(name, kinds) for name in named}
    volumes = {kind: named[name] for name, kind in told.items() if kind}
    if not volumes:
        raise BadInput("its name has none of the modalities.")
    if len(volumes) < sum(map(bool, told.values())):
        raise BadInput("two of its files are of the same modality.")
    first = next(iter(volumes.values()))
    if any(volume.shape != first.shape for volume in volumes.values()):
        raise BadInput("its modalities have different sizes, so they are not registered.")
    if any(not np.allclose(volume.affine, first.affine, atol=0.05) for volume in volumes.values()):
        raise BadInput("its modalities lie in different places, so they are not on one grid.")
    array = np.full((len(kinds), *first.shape), np.nan, np.float32)
    for n, text in enumerate(kinds):
        if text in volumes:
            array[n] = volumes[text].array[0]
    return Volume(array, first.affine, first.meta)


def told_order(name: str, kinds: Sequence[str]) -> str:
    """A note where the name of a volume tells all its channels, but not in the order of the kinds; else empty."""
    told = told_kinds(name, kinds)
    if sorted(told) != sorted(kinds) or told == list(kinds):
        return ""
    return f"The name of {name} tells {', '.join(told)}; check that its channels are in the order of the model."


def check_kinds(scans: Mapping[str, Volume], spec: Spec) -> list[str]:
    """Notes on scans by their kind whose names leave that open. Raises BadInput where a name tells another kind."""
    return list(filter(None, (_check_kind(scan.name, kind, spec) for kind, scan in scans.items())))


def _check_kind(name: str, kind: str, spec: Spec) -> str:
    """A note where the name of a scan tells other kinds that a model knows than it is taken as; else empty.

    Raises BadInput where it clearly tells one that the model could take it as.
    """
    told = list(dict.fromkeys(told_kinds(name, [one.name for one in spec.kinds] or names_of(spec))))
    if not told or kind in told:
        return ""
    sentence = f"{name} is taken as {kind}, but its name says {' and '.join(told)}."
    if len(told) == 1 and fuses(spec):
        raise BadInput(sentence, "Say which kind it is, or rename it where the name is wrong.")
    return sentence

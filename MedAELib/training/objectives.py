"""What training makes small: named terms, added up with weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from monai.losses import PatchAdversarialLoss, SSIMLoss
from torch import Tensor, nn

from MedAELib.networks.network import Extras
from MedAELib.training.loop import Batch, Objective
from MedAELib.training.parallel import mean_over_all

Term = Callable[[Tensor, Tensor, Extras], Tensor]  # what was made, what it should be [b, c, ...], and more by name

_BINS, _LOWEST, _HIGHEST = 48, -0.25, 1.25  # of the window
_COMMITMENT = 0.25
_FEW_VOXELS = 20.0


def relative_error(output: Tensor, target: Tensor, given: Tensor, floor: float = 0.3) -> Tensor:
    """Mean over the batch of each patch's root mean squared error, as a share of the error of what was given.

    Batches mix noise from 0.4 to 20 %: as shares of the noise all levels count alike. The logarithm of the error was
    tried instead: flat patches, where ever less can be left, then rule over those with fine anatomy, which comes out
    smoothed. ``floor``, in units of the noise, is added, so that patches with none do not rule the rest.
    Shapes [b, c, ...]; returns a scalar.
    """
    error, noise = ((image.float() - target.float()).square().flatten(1).mean(1) for image in (output, given))
    return ((error + 1e-8).sqrt() / (noise.sqrt() + floor)).mean()


def lost_contrast(output: Tensor, target: Tensor, lesions: Tensor) -> Tensor:
    """Mean over the batch of the share of their contrast that the lesions of a patch lose, or gain, on average.

    ``lesions`` is what small lesions added to the target, in units of the noise, 0 elsewhere: lesions well above the
    noise count alike, weaker ones less, and where all are so weak that chance rules, nearly nothing. A squared error
    hardly sees lesions, as they fill so few voxels, and a denoiser that it alone has trained takes small faint ones for
    noise. Shapes [b, c, ...]; returns a scalar.
    """
    error, lesions = (output.float() - target.float()).flatten(1), lesions.flatten(1)
    weight = lesions / (lesions.square() + 1)
    return ((error * weight).sum(1).abs() / ((lesions * weight).sum(1) + _FEW_VOXELS)).mean()


def mse(made: Tensor, target: Tensor, extras: Extras) -> Tensor:
    """Mean squared error."""
    return (made - target).square().mean()


def l1(made: Tensor, target: Tensor, extras: Extras) -> Tensor:
    """Mean absolute error."""
    return (made - target).abs().mean()


def charbonnier(made: Tensor, target: Tensor, extras: Extras) -> Tensor:
    """An absolute error that is smooth at 0, within a thousandth of the window (Charbonnier et al., ICIP 1994)."""
    return ((made - target).square() + 1e-6).sqrt().mean() - 1e-3


def cross_entropy(made: Tensor, target: Tensor, extras: Extras) -> Tensor:
    """Cross-entropy on intensities in 48 bins from -0.25 to 1.25 of the window, beyond which they count as the last.

    What was made stands for a normal distribution as wide as a bin; the target lies in one bin, or between two.
    """
    width = (_HIGHEST - _LOWEST) / _BINS
    centres = torch.linspace(_LOWEST + width / 2, _HIGHEST - width / 2, _BINS, device=made.device)
    chances = (-0.5 * ((made.flatten()[:, None] - centres) / width).square()).log_softmax(1)
    place = ((target.flatten() - centres[0]) / width).clamp(0, _BINS - 1)
    lower = place.long().clamp(max=_BINS - 2)
    share = (place - lower)[:, None]
    low, high = chances.gather(1, lower[:, None]), chances.gather(1, lower[:, None] + 1)
    return -((1 - share) * low + share * high).mean()


def ssim(made: Tensor, target: Tensor, extras: Extras) -> Tensor:
    """One minus the structural similarity, range 1 (Wang et al. 2004), with a window that fits into the patch."""
    window = min(11, (min(made.shape[2:]) - 1) // 2 * 2 + 1)
    loss: Tensor = SSIMLoss(made.ndim - 2, win_size=window)(made, target)
    return loss


def gradient(made: Tensor, target: Tensor, extras: Extras) -> Tensor:
    """Mean absolute error of the differences between neighbours, so that edges stay sharp (Mathieu et al. 2016)."""
    axes = [axis for axis in range(2, made.ndim) if made.shape[axis] > 1]
    difference = made - target
    return torch.stack([difference.diff(dim=axis).abs().mean() for axis in axes] or [0 * difference.sum()]).mean()


def kl(made: Tensor, target: Tensor, extras: Extras) -> Tensor:
    """Kullback-Leibler divergence of the code from a standard normal distribution, in nats per voxel."""
    mean, log_variance = extras["mean"], extras["log_variance"]
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / made.numel()


def sparsity(made: Tensor, target: Tensor, extras: Extras) -> Tensor:
    """Mean magnitude of the code."""
    return extras["code"].float().abs().mean()


def commitment(made: Tensor, target: Tensor, extras: Extras) -> Tensor:
    """Entries of the codebook move to what they stand for, and, a quarter as much, codes to their entries."""
    direction, entry = extras["direction"], extras["entry"]
    return (entry - direction.detach()).square().mean() + _COMMITMENT * (direction - entry.detach()).square().mean()


def adversarial(made: Tensor, target: Tensor, extras: Extras) -> Tensor:
    """How far the critic's verdict on what was made is from "real" (least squares: Mao et al., ICCV 2017)."""
    return judged(extras["verdict"], real=True, critic=False)


def judged(verdict: Tensor, real: bool, critic: bool) -> Tensor:
    """How far a critic's verdict is from real or made up, for the critic itself or for whom it judges."""
    loss = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)
    far: Tensor = loss(verdict, target_is_real=real, for_discriminator=critic)
    return far


TERMS: dict[str, Term] = {
    "mse": mse,
    "l1": l1,
    "charbonnier": charbonnier,
    "cross_entropy": cross_entropy,
    "ssim": ssim,
    "gradient": gradient,
    "kl": kl,
    "sparsity": sparsity,
    "commitment": commitment,
    "adversarial": adversarial,
}
WARMED_UP = ("kl", "adversarial")  # terms that spoil a code which does not say anything yet


def added_up(weights: Mapping[str, float], warmup: int = 1, critic: nn.Module | None = None) -> Objective:
    """The weighted sum of terms, for batches (given, target, keys, and a second input of the network if it has one).

    Terms that need a warm-up rise over `warmup` steps (Bowman et al. 2016). Where the target is not a number nothing is
    asked: a modality that is missing, a voxel that is not blind.
    """

    def objective(network: nn.Module, batch: Batch) -> Tensor:
        given, target, keys, *second = batch
        made, extras = network.learn(given, keys, *second)  # type: ignore[operator]
        if critic is not None:
            shown = network.real_and_made(target, made, extras, keys)[1]  # type: ignore[operator]
            extras = {**extras, "verdict": verdict(critic, shown)}
        known = target.isfinite()
        share = mean_over_all(known.float().mean()).clamp(min=1e-6)
        made, target = torch.where(known, made, 0), torch.where(known, target, 0)
        rise = (keys[0, 1] + 1).clamp(max=warmup) / warmup
        total = torch.zeros((), device=made.device)
        for name, weight in weights.items():
            part = TERMS[name](made, target, extras) * (rise if name in WARMED_UP else 1)
            total = total + weight * (part if name in extras_only else part / share)
        return total

    extras_only = {"kl", "sparsity", "commitment", "adversarial"}
    return objective


def critic_error(critic: nn.Module, network: nn.Module, batch: Batch) -> Tensor:
    """How badly a critic tells real from made; the network itself does not learn from this."""
    given, target, keys, *second = batch
    with torch.no_grad():
        made, extras = network.learn(given, keys, *second)  # type: ignore[operator]
        real, fake = network.real_and_made(target, made, extras, keys)  # type: ignore[operator]
    errors = [judged(verdict(critic, shown), is_real, True) for shown, is_real in ((real, True), (fake, False))]
    return 0.5 * (errors[0] + errors[1])


def verdict(critic: nn.Module, shown: Tensor) -> Tensor:
    """The last of what a critic says: MONAI's patch discriminator gives all its layers' results."""
    said = critic(shown)
    last: Tensor = said[-1] if isinstance(said, list) else said
    return last

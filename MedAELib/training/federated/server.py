"""What the server of a federation does with the mean of the sites: it goes on in the direction of earlier rounds."""

from __future__ import annotations

from typing import Any

from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.fedavg import FedAvg


class MomentumAveraging(FedAvg):
    """FLARE's federated averaging (McMahan et al., AISTATS 2017) with momentum at the server (Hsu et al.,
    arXiv:1909.06335), in Nesterov's form, which learned far better here than the plain one.

    What the mean of the sites changed in a round is added to the share `momentum` (from 0 to less than 1) of what the
    rounds before added up to; the weights go on by that share of the sum, beyond the mean. So what all sites agree on
    adds up, and what they pull in different directions does not.
    """

    def __init__(self, num_clients: int, num_rounds: int, persistor_id: str, momentum: float) -> None:
        # FLARE reads the names of these arguments to write the job
        super().__init__(num_clients=num_clients, num_rounds=num_rounds, persistor_id=persistor_id)
        self.momentum = momentum
        self.sums: dict[str, Any] = {}

    def update_model(self, model: FLModel, aggr_result: FLModel) -> FLModel:
        """The weights of the next round from those of this one and the mean of what the sites sent."""
        before = dict(model.params)
        model = super().update_model(model, aggr_result)
        for name, mean in model.params.items():
            self.sums[name] = mean - before[name] + self.momentum * self.sums.get(name, 0)
            model.params[name] = mean + self.momentum * self.sums[name]
        return model

"""Operations on the steps of exams of different lengths that ignore the padding.

Features are float (n, steps, channels), masks bool (n, steps), True where a step is real; the
padding follows the real steps.
"""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def zero_padding(features: Tensor, mask: Tensor) -> Tensor:
    """The features with the padding set to zero."""
    return features.masked_fill(~mask.unsqueeze(-1), 0)


def with_differences(features: Tensor, mask: Tensor, later: bool = True) -> Tensor:
    """Every step's features and their differences to the neighbouring steps.

    Args:
        features: zeros in the padding.
        later: whether a step may see the next one.

    Returns:
        float (n, steps, 3 * channels): the features, the features minus the previous step's, and
        the features minus the next step's; without the last of these if ``later`` is False. Zeros
        where a step has no such neighbour.
    """
    count, steps, channels = features.shape
    # Filled in place: concatenating the parts would need twice the memory.
    seen = features.new_zeros(count, steps, channels * (3 if later else 2))
    seen[..., :channels] = features
    rise = (features[:, 1:] - features[:, :-1]).masked_fill(~mask[:, 1:, None], 0)
    seen[:, 1:, channels : 2 * channels] = rise
    if later:
        seen[:, :-1, 2 * channels :] = -rise
    return seen


class StepBatchNorm(nn.Module):
    """Batch normalisation over the real steps of a batch.

    Args:
        channels: channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Normalised features of the same shape; values in the padding are undefined."""
        if not self.norm.training:
            return self.norm(features.flatten(0, 1)).view_as(features)
        rows = self.norm(features[mask])
        return rows.new_zeros(features.shape).masked_scatter(mask.unsqueeze(-1), rows)


def run_packed(network: nn.RNNBase, features: Tensor, mask: Tensor) -> Tensor:
    """Output of a batch-first recurrent network that reads only the real steps.

    Returns:
        float (n, steps, channels), zeros in the padding.
    """
    lengths = mask.sum(dim=1).cpu()
    packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(network(packed)[0], batch_first=True, total_length=mask.shape[1])[0]

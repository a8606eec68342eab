"""RoIAlign on all cores that torch may use."""

from concurrent.futures import ThreadPoolExecutor

import torch
from mmcv.ops import RoIAlign
from torch import Tensor

#: Boxes per task of a thread. Small parts reuse the memory of earlier parts; one tensor for all
#: boxes would be requested from the system again, page by page.
_TOGETHER = 32


class SharedOutRoIAlign(RoIAlign):
    """mmcv's RoIAlign through torchvision, with the boxes distributed over the cores.

    torchvision's CPU kernel uses one core; it releases Python's lock, so threads run in parallel.
    The result is bit-identical. With gradients or on a GPU this is mmcv's own.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Features of every box.

        Args:
            input: float (n, channels, rows, cols).
            rois: float (boxes, 5): index into the batch, x1, y1, x2, y2 in pixels of the image.

        Returns:
            (boxes, channels, rows, cols) of ``output_size``.
        """
        threads = torch.get_num_threads()
        # New threads do not inherit autocast, which makes no difference for float32.
        plain = input.dtype == rois.dtype == torch.float32 or not torch.is_autocast_enabled("cpu")
        shared = input.device.type == "cpu" and not torch.is_grad_enabled() and plain
        if threads < 2 or len(rois) <= _TOGETHER or not shared:
            return super().forward(input, rois)
        inference = torch.is_inference_mode_enabled()
        align = super().forward
        input = input.contiguous()
        out = input.new_empty(len(rois), input.shape[1], *self.output_size)

        def work(start: int) -> None:
            part = slice(start, start + _TOGETHER)
            # The gradient mode is set per thread.
            with torch.inference_mode() if inference else torch.no_grad():
                out[part] = align(input, rois[part])

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(0, len(rois), _TOGETHER)))
        return out

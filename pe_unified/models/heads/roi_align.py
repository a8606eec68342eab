"""RoIAlign on all the cores that torch may use."""

from concurrent.futures import ThreadPoolExecutor

import torch
from mmcv.ops import RoIAlign
from torch import Tensor

#: Boxes that a thread takes at a time. Their features stay in the memory that the last ones had,
#: where one tensor for all would be fetched anew from the system, page by page.
_TOGETHER = 32


class SharedOutRoIAlign(RoIAlign):
    """mmcv's RoIAlign through torchvision, the boxes shared out over cores.

    torchvision's kernel for CPUs works on one core; it lets go of Python's lock, so threads run
    side by side. The result is the same to the bit. With gradients or on a GPU it is mmcv's own.
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
        # Autocast, which threads would not know of, leaves float32 as it is.
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
            # Whether gradients are wanted is known to each thread by itself.
            with torch.inference_mode() if inference else torch.no_grad():
                out[part] = align(input, rois[part])

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(0, len(rois), _TOGETHER)))
        return out

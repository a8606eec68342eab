"""Read studies in a browser: a worklist of reports, the images, and decisions that are saved.

REPORTS is a folder written by pe-unified infer or batch. The images are read from the studies
themselves, so give their folder. Decisions are stored in REPORTS/reviews.sqlite. By default the
server answers only this machine. --address lets other machines in, and needs --token and TLS;
0.0.0.0 and :: also need --names. The token is generated and printed once, or taken from
PE_UNIFIED_TOKEN.

Examples:
  pe-unified serve reports --studies /data/cases
  pe-unified serve reports --studies /data/incoming --model model.pth
  pe-unified serve reports --studies /data/cases --address 10.0.0.7 --token --tls-cert c.pem \\
    --tls-key k.pem
"""

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pe_unified.command import exit_on_user_error
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.errors import UserError
from pe_unified.paths import require_there

if TYPE_CHECKING:
    from pe_unified.serve.app import ServeOptions

_PORT = 8450
#: A token of one's own; shorter ones can be found by trying.
_TOKEN, _SHORTEST = "PE_UNIFIED_TOKEN", 16


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", type=Path, help="reports of one study, or of a batch")
    parser.add_argument(
        "--studies",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of the studies that the reports were made from",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="analyse studies without a report, and new ones, with this checkpoint",
    )
    parser.add_argument("--port", type=int, default=_PORT, help=f"default {_PORT}; 0: a free port")
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        metavar="IP",
        help="listen on this address, for other machines; default: this machine only",
    )
    parser.add_argument(
        "--names",
        nargs="+",
        default=[],
        metavar="HOST",
        help="names of this machine, as used by other machines",
    )
    parser.add_argument(
        "--token",
        action="store_true",
        help=f"require a token: generated, or {_TOKEN} from the environment",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="PEM", help="certificate of the server")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="its private key")
    parser.add_argument(
        "--show-names",
        action="store_true",
        help="show names of patients and folders; by default they do not leave the server",
    )
    parser.add_argument(
        "--blind", action="store_true", help="do not show readers each other's decisions"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="for unpacked slices, removed at the end; default: the folder of temporary files",
    )
    return parser


@exit_on_user_error(goes_on="decisions are kept; run the same command again to continue")
def main() -> None:
    args = make_parser().parse_args()
    from pe_unified.serve.app import make_app
    from pe_unified.serve.images import ImageCache
    from pe_unified.serve.incoming import analysed
    from pe_unified.serve.server import listen, make_server

    options = serve_options(args)
    require_there(*args.studies, *filter(None, (args.model, args.cache)))
    if args.model:
        args.reports.mkdir(parents=True, exist_ok=True)
    require_there(args.reports)
    with ExitStack() as stack:
        images = stack.enter_context(ImageCache(options.cache))
        server = make_server(make_app(options, images), args.tls_cert, args.tls_key)
        place = stack.enter_context(listen(args.address, args.port))
        if args.model:
            stack.enter_context(
                analysed(args.studies, args.reports, args.model, options.key is not None)
            )
        port = place.getsockname()[1]
        kind = "https" if args.tls_cert else "http"
        query = f"?token={quote(options.token)}" if options.token else ""
        print(f"open {kind}://{options.hosts[0]}:{port}/{query}   (Ctrl-C ends)", flush=True)
        print(RESEARCH_LINE, flush=True)
        server.run(sockets=[place])


def serve_options(args: argparse.Namespace) -> "ServeOptions":
    """What was asked for.

    Raises:
        UserError: it would let others in unasked.
    """
    from pe_unified.serve.app import ServeOptions
    from pe_unified.serve.guard import is_loopback, new_token

    remote = not is_loopback(args.address)
    if remote and not (args.token and args.tls_cert and args.tls_key):
        raise UserError(
            f"--address {args.address} lets other machines in: this needs --token, --tls-cert and "
            "--tls-key"
        )
    if bool(args.tls_cert) != bool(args.tls_key):
        raise UserError("--tls-cert and --tls-key go together")
    is_any = args.address in ("0.0.0.0", "::")
    if is_any and not args.names:
        raise UserError(f"--address {args.address} needs --names: this machine's names for others")
    if args.model and len(args.studies) != 1:
        raise UserError("--model needs --studies with one folder, where new studies arrive")
    token = None
    if args.token:
        token = os.environ.get(_TOKEN) or new_token()
        if len(token) < _SHORTEST:
            raise UserError(f"{_TOKEN} has fewer than {_SHORTEST} characters")
    # As browsers write them.
    own = [] if is_any else [f"[{args.address}]" if ":" in args.address else args.address]
    # The first is printed, so it should reach this server without a proxy.
    hosts = [*args.names, *own] if remote else [*own, *args.names, "localhost"]
    return ServeOptions(
        reports=args.reports,
        studies=tuple(args.studies),
        hosts=tuple(dict.fromkeys(hosts)),
        token=token,
        remote=remote,
        show_names=args.show_names,
        blind=args.blind,
        cache=args.cache,
        key=os.environ.get("PE_UNIFIED_KEY"),
    )

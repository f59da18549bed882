"""Prepares the operator's machine for `ray up`, by `python -m tuner.commands.cluster_setup`:

prepare --storage URI     .cluster/: a clean export of the project, the nodes' settings, tokens and passwords
onprem --head IP ...      prints cluster.yaml for machines that are there already
"""

import copy
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.base.arguments import Parser
from trainables.base.errors import InputError
from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.base.private_files import keep_private, write_private
from tuner.base.text import one_line
from tuner.commands.source_export import export

CLUSTER_DIR = Path(".cluster")
DATABASE_USER, TRACKING_USER = "tuner", "admin"


def prepare(storage: str, target: Path, home: Path, settings: Sequence[str] = ()) -> None:
    """Write the folder that cluster.yaml's `file_mounts` send to the nodes, and Ray's token into `home`.

    Tokens and passwords are made once and kept; every file that holds one has mode 600.

    Args:
        storage: root of the run folders, an object store or a folder that all nodes share.
        settings: more NAME=VALUE variables for every node.

    Raises:
        UsageError: a storage that other nodes could not reach, a setting that is none, or no git checkout.
    """
    _refuse_without_checkout()
    if "://" not in storage and not storage.startswith("/"):
        raise UsageError(
            f"--storage {storage} is relative; nodes share an object store (s3://BUCKET/runs) or /a/mounted/folder"
        )
    variables = {
        "TUNER_STORAGE": storage,
        "TUNER_ARTIFACTS": f"{storage.rstrip('/').rpartition('/')[0]}/mlflow",
    }
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--set {setting} is not NAME=VALUE")
        variables[name] = value
    export(target / "project")
    own = target / "settings"
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    write_private(own / "site.env", "\n".join(lines) + "\n")
    keep_private(own / "pgpass", f"*:*:*:{DATABASE_USER}:{secrets.token_hex(24)}\n")
    keep_private(
        own / "mlflow_credentials",
        f"[mlflow]\nmlflow_tracking_username = {TRACKING_USER}\nmlflow_tracking_password = {secrets.token_hex(24)}\n",
    )
    keep_private(home / ".ray" / "auth_token", secrets.token_hex(32))


def _refuse_without_checkout() -> None:
    """Raise UsageError where the project is installed as a package: the nodes' files are not in there."""
    if not (environment.ROOT / "cluster.yaml").is_file():
        raise UsageError(
            f"{environment.ROOT} holds the installed program alone; a cluster is set up from a checkout of the "
            "project, which has cluster.yaml and clusters/"
        )


def on_premises(
    config: dict[str, Any], head: str, workers: Sequence[str], user: str, key: str
) -> dict[str, Any]:
    """Return a cluster configuration for machines that are there already, reached by ssh.

    Only who provides the nodes changes: provider, auth and node types. What is sent to the nodes, their setup and
    their start are cluster.yaml's, to the letter. All workers are started at once and kept.
    """
    derived = copy.deepcopy(config)
    for key_of_clouds in ("available_node_types", "head_node_type"):
        derived.pop(key_of_clouds, None)
    derived["provider"] = {"type": "local", "head_ip": head, "worker_ips": list(workers)}
    derived["auth"] = {"ssh_user": user, "ssh_private_key": key}
    derived["min_workers"] = derived["max_workers"] = len(workers)
    return derived


def stop_commands(config: dict[str, Any]) -> list[list[str]]:
    """Return the commands that end what `ray down` leaves running on machines of one's own.

    Ray 2.60 ends its processes on the head alone there.

    Raises:
        UsageError: a cloud's cluster, whose machines `ray down` ends.
    """
    provider, auth = config["provider"], config["auth"]
    if provider["type"] != "local":
        raise UsageError(
            f"provider {provider['type']}: ray down ends the machines themselves, nothing is left to stop"
        )
    key = os.path.expanduser(auth["ssh_private_key"])
    known = Path.home() / ".ssh" / "known_hosts"  # ssh itself would not ask $HOME
    ssh = ["ssh", "-i", key, "-o", "IdentitiesOnly=yes"]
    ssh += ["-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={known}"]
    tasks = [(ip, "ray stop") for ip in provider["worker_ips"]]
    tasks.append((provider["head_ip"], "~/project/clusters/services.sh stop"))
    # interactive: the distribution's .bashrc leaves before our line otherwise
    return [[*ssh, f"{auth['ssh_user']}@{ip}", f"bash --login -i -c '{task}'"] for ip, task in tasks]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = Parser(
        prog="python -m tuner.commands.cluster_setup", description="What `ray up` needs on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser(
        "prepare", help="write .cluster/ for `ray up`; again after a change of the project"
    )
    first.add_argument("--storage", required=True, metavar="URI", help="s3://BUCKET/runs, or a shared folder")
    first.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="variable for every node"
    )
    own = commands.add_parser("onprem", help="print a configuration for machines of your own")
    own.add_argument("--head", required=True, metavar="IP")
    own.add_argument("--workers", required=True, metavar="IP,IP,...")
    own.add_argument("--user", required=True, help="login name, the same on all machines")
    own.add_argument("--key", required=True, metavar="FILE", help="private ssh key; it is copied to the head")
    end = commands.add_parser("stop", help="before `ray down` of machines of your own")
    end.add_argument("config", metavar="FILE")
    try:
        options = parser.parse_args(arguments)
        if options.command == "prepare":
            prepare(options.storage, CLUSTER_DIR, Path.home(), options.set)
            sys.stdout.write(f"{CLUSTER_DIR}/ is ready; next: ray up cluster.yaml\n")
        elif options.command == "stop":
            import yaml

            (Path.home() / ".ssh").mkdir(mode=0o700, exist_ok=True)
            commands_to_run = stop_commands(yaml.safe_load(Path(options.config).read_text()))
            return max(subprocess.run(command).returncode for command in commands_to_run)
        else:
            import yaml

            _refuse_without_checkout()
            config = yaml.safe_load((environment.ROOT / "cluster.yaml").read_text())
            workers = [ip.strip() for ip in options.workers.split(",") if ip.strip()]
            derived = on_premises(config, options.head, workers, options.user, options.key)
            sys.stdout.write(yaml.safe_dump(derived, sort_keys=False, width=200))
    except (UsageError, InputError) as error:
        sys.stderr.write(f"tuner.commands.cluster_setup: {one_line(error, limit=None)}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The cluster files: Ray's own schema, the same commands everywhere, and what must never be in them."""

import copy
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuner.base import environment
from tuner.base.errors import UsageError
from tuner.commands import cluster_setup

ROOT = environment.ROOT
CLOUDS = ("cluster.yaml", "clusters/gcp.yaml", "clusters/onprem.yaml")
COMMANDS = (
    "file_mounts",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def texts(value: Any) -> list[str]:
    """Return every string in a configuration, keys too."""
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [str(value)]


@pytest.mark.parametrize("name", CLOUDS)
def test_rays_own_schema(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_UP_enable_autoscaler_v2", "0")
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = util.prepare_config(copy.deepcopy(load(name)))
    for kind in config["available_node_types"].values():
        kind.setdefault("resources", {})  # filled from the cloud's API at `ray up`
    util.validate_config(config)


@pytest.mark.parametrize("name", CLOUDS[1:])
def test_every_variant_runs_the_same_commands(name: str) -> None:
    first, other = load("cluster.yaml"), load(name)
    assert {key: other[key] for key in COMMANDS} == {key: first[key] for key in COMMANDS}


def test_the_on_premises_file_is_what_the_function_derives() -> None:
    derived = cluster_setup.on_premises(
        load("cluster.yaml"),
        "10.0.0.10",
        ["10.0.0.11", "10.0.0.12"],
        "ubuntu",
        "~/.ssh/robust-tuner.pem",
    )
    assert derived == load("clusters/onprem.yaml")
    changed = {key for key, value in load("cluster.yaml").items() if derived.get(key) != value}
    assert changed <= {"provider", "auth", "head_node_type", "available_node_types", "max_workers"}


@pytest.mark.parametrize("name", CLOUDS)
def test_nothing_listens_to_the_world_and_no_secret_is_written_down(name: str) -> None:
    config = load(name)
    for text in texts(config):
        assert "0.0.0.0" not in text
        plain = text.replace('--redis-password="$TUNER_REDIS_PASSWORD"', "")  # from site.env
        assert not re.search(r"(password|token|secret|key)\s*=\s*\S", plain, re.IGNORECASE), text
        assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|\b[0-9a-f]{40,}\b", text), text
    (start,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    assert "--dashboard-host=127.0.0.1" in start
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"][0]
    for command in (start, *(c for c in config["worker_start_ray_commands"] if "ray start" in c)):
        assert command.index("unset OMP_NUM_THREADS") < command.index("ray start")


def test_tokens_are_asked_for_on_every_node_and_services_stay_on_loopback() -> None:
    settings = (ROOT / "clusters" / "node.env").read_text()
    assert "RAY_AUTH_MODE=token" in settings
    assert "TUNER_SERVICES=127.0.0.1" in settings
    assert any("clusters/node.env" in command for command in load("cluster.yaml")["setup_commands"])
    services = (ROOT / "clusters" / "services.sh").read_text()
    for needed in ("--app-name basic-auth", "--allowed-hosts", "scram-sha-256", "umask 077"):
        assert needed in services
    assert "0.0.0.0" not in services
    assert not re.search(r"(host|local).*\btrust\b", services)


def test_aws_defaults_of_ray_are_overridden() -> None:
    config = load("cluster.yaml")
    assert "security_group" not in config["provider"]  # Ray's own would open port 22 to the world
    head = config["head_node_type"]
    for name, kind in config["available_node_types"].items():
        node = kind["node_config"]
        assert node["SecurityGroupIds"] == ["SECURITY-GROUP"], name
        assert node["IamInstanceProfile"]["Name"] == f"robust-tuner-{'head' if name == head else 'worker'}"
        assert "ubuntu-24.04" in node["ImageId"]
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])
        spot = node.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        assert spot == (name != head)
        assert kind.get("min_workers", 0) == 0
    assert config["available_node_types"][head]["resources"] == {"CPU": 0, "GPU": 0}


def test_aws_account_opens_ssh_to_the_operator_alone() -> None:
    class Loader(yaml.SafeLoader):
        """Reads CloudFormation's !Ref and the like as plain values."""

    Loader.add_multi_constructor("!", lambda loader, tag, node: f"{tag} {node.value}")
    template = yaml.load((ROOT / "clusters" / "aws-account.yaml").read_text(), Loader)
    resources = template["Resources"]
    (rule,) = resources["Nodes"]["Properties"]["SecurityGroupIngress"]
    assert (rule["FromPort"], rule["ToPort"], rule["CidrIp"]) == (22, 22, "Ref OperatorCidr")
    allowed = re.compile(template["Parameters"]["OperatorCidr"]["AllowedPattern"])
    assert allowed.search("203.0.113.7/32")
    assert not allowed.search("0.0.0.0/0")
    assert not allowed.search("203.0.113.7/8")
    assert all(resources["Bucket"]["Properties"]["PublicAccessBlockConfiguration"].values())


@pytest.mark.parametrize("name", ["services.sh", "mps.sh", "node.env"])
def test_shell_files_parse(name: str) -> None:
    subprocess.run(["bash", "-n", ROOT / "clusters" / name], check=True)


def test_the_ray_version_is_the_same_everywhere() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (pinned,) = [r.partition("==")[2] for r in extras["cluster"] if r.startswith("ray")]
    assert load("clusters/kubernetes/raycluster.yaml")["spec"]["rayVersion"] == pinned
    assert f"rayproject/ray:{pinned}-" in (ROOT / "clusters" / "kubernetes" / "Dockerfile").read_text()


def prepared(folder: Path, **more: Any) -> dict[str, Path]:
    cluster_setup.prepare("s3://bucket/runs", folder / ".cluster", folder / "home", **more)
    own = folder / ".cluster" / "settings"
    secrets = {name: own / name for name in ("site.env", "pgpass", "mlflow_credentials")}
    return secrets | {"auth_token": folder / "home" / ".ray" / "auth_token"}


def test_prepare_makes_secrets_once_and_nobody_else_can_read_them(tmp_path: Path) -> None:
    first = {name: path.read_text() for name, path in prepared(tmp_path).items()}
    files = prepared(tmp_path, settings=["HTTPS_PROXY=http://proxy:3128"])
    for name, path in files.items():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, name
        if name != "site.env":
            assert path.read_text() == first[name], name
    assert "export TUNER_STORAGE=s3://bucket/runs\n" in first["site.env"]
    assert "export TUNER_ARTIFACTS=s3://bucket/mlflow\n" in first["site.env"]
    assert "export HTTPS_PROXY=http://proxy:3128\n" in files["site.env"].read_text()
    assert re.fullmatch(r"\*:\*:\*:tuner:[0-9a-f]{48}\n", first["pgpass"])
    assert (tmp_path / ".cluster" / "project" / "launch.py").is_file()
    assert not (tmp_path / ".cluster" / "project" / ".git").exists()


def test_prepare_closes_a_token_that_others_could_read(tmp_path: Path) -> None:
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("given")
    token.chmod(0o644)
    assert prepared(tmp_path)["auth_token"].read_text() == "given"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_prepare_refuses_what_the_nodes_could_not_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is relative"):
        cluster_setup.prepare("runs", tmp_path, tmp_path)
    with pytest.raises(UsageError, match="not NAME=VALUE"):
        cluster_setup.prepare("/shared/runs", tmp_path, tmp_path, ["a b=1"])


def test_stop_reaches_every_machine_of_ones_own_and_no_clouds() -> None:
    commands = cluster_setup.stop_commands(load("clusters/onprem.yaml"))
    assert [command[-2] for command in commands] == [f"ubuntu@10.0.0.{n}" for n in (11, 12, 10)]
    assert [command[-1].split("'")[1] for command in commands] == [
        "ray stop",
        "ray stop",
        "~/project/clusters/services.sh stop",
    ]
    with pytest.raises(UsageError, match="nothing is left to stop"):
        cluster_setup.stop_commands(load("cluster.yaml"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["prepare"], "the following arguments are required: --storage"),
        (["onprem", "--head", "h"], "the following arguments are required: --workers, --user, --key"),
        (["prepare", "--storage", "s3://b", "--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert cluster_setup.main(words) == 2
    assert capsys.readouterr().err == f"tuner.commands.cluster_setup: {says} (see --help)\n"

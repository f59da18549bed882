"""cluster.yaml against a pretended AWS, up to the first ssh: account template, Ray's bootstrap, instances.

moto answers the API inside this process; nothing is contacted and no process is started.
"""

import ast
import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tuner.base import environment

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (extra cluster)")
moto = pytest.importorskip("moto", reason="moto is not installed (extra dev)")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REGION = "us-west-2"
OPERATOR = "203.0.113.7/32"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An account in which clusters/aws-account.yaml was deployed; yields its outputs."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    sleep = time.sleep
    monkeypatch.setattr(
        time, "sleep", lambda seconds: sleep(min(seconds, 0.05))
    )  # Ray waits for IAM to spread
    with moto.mock_aws():
        stacks = boto3.client("cloudformation")
        vpc = boto3.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        parameters = {"Vpc": vpc, "OperatorCidr": OPERATOR}
        stacks.create_stack(
            StackName="robust-tuner",
            TemplateBody=(environment.ROOT / "clusters" / "aws-account.yaml").read_text(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        )
        boto3.client("ec2").create_key_pair(KeyName="robust-tuner")
        (stack,) = stacks.describe_stacks(StackName="robust-tuner")["Stacks"]
        yield {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def bootstrapped(account: dict[str, str], folder: Any) -> dict[str, Any]:
    """Return cluster.yaml, its one placeholder filled in, as `ray up` completes it from the account."""
    from ray.autoscaler._private import commands

    text = (environment.ROOT / "cluster.yaml").read_text().replace("SECURITY-GROUP", account["SecurityGroup"])
    config = yaml.safe_load(text)
    key = folder / "robust-tuner.pem"
    key.write_text("the private half")
    config["auth"]["ssh_private_key"] = str(key)
    config["file_mounts"] = {}
    found: dict[str, Any] = commands._bootstrap_config(config, no_config_cache=True)
    return found


def test_every_node_type_starts_as_described(account: dict[str, str], tmp_path: Any) -> None:
    from ray.autoscaler._private.providers import _get_node_provider

    config = bootstrapped(account, tmp_path)
    types = config["available_node_types"]
    assert types["gpu_l4_spot"]["resources"] | {"memory": 0} == {
        "CPU": 8,
        "GPU": 1,
        "memory": 0,
        "accelerator_type:L4": 1,
    }
    assert types["cpu_spot"]["resources"]["CPU"] == 16
    assert types["head"]["resources"]["CPU"] == types["head"]["resources"]["GPU"] == 0
    provider = _get_node_provider(config["provider"], config["cluster_name"])
    for name, kind in types.items():
        role = "head" if name == config["head_node_type"] else "worker"
        tags = {
            "ray-node-type": role,
            "ray-node-name": name,
            "ray-node-status": "uninitialized",
            "ray-launch-config": "none",
            "ray-user-node-type": name,
        }
        provider.create_node(copy.deepcopy(kind["node_config"]), tags, 1)
    found = {}
    for reservation in boto3.client("ec2").describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
            found[tags["ray-user-node-type"]] = instance
    assert set(found) == set(types)
    for name, instance in found.items():
        assert instance["InstanceType"] == types[name]["node_config"]["InstanceType"]
        assert (instance.get("InstanceLifecycle") == "spot") == (name != "head")
        assert [group["GroupId"] for group in instance["SecurityGroups"]] == [account["SecurityGroup"]]
        profile = "robust-tuner-head" if name == "head" else "robust-tuner-worker"
        assert instance["IamInstanceProfile"]["Arn"].endswith(f"/{profile}")


def test_ssh_is_open_to_the_operator_alone_and_the_head_may_do_only_its_work(account: dict[str, str]) -> None:
    (group,) = boto3.client("ec2").describe_security_groups(GroupIds=[account["SecurityGroup"]])[
        "SecurityGroups"
    ]
    outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["FromPort"], rule["ToPort"], rule["IpRanges"][0]["CidrIp"]) for rule in outside] == [
        (22, 22, OPERATOR)
    ]
    iam = boto3.client("iam")
    policy = iam.get_role_policy(RoleName="robust-tuner-head", PolicyName="start-workers")["PolicyDocument"]
    statements = (policy if isinstance(policy, dict) else ast.literal_eval(policy))[
        "Statement"
    ]  # moto's text
    actions = {action for statement in statements for action in statement["Action"]}
    assert actions == {
        "ec2:Describe*",
        "ec2:RunInstances",
        "ec2:CreateTags",
        "ec2:TerminateInstances",
        "ssm:GetParameters",
        "iam:PassRole",
    }
    (passed,) = [statement for statement in statements if "iam:PassRole" in statement["Action"]]
    assert passed["Resource"].endswith(":role/robust-tuner-worker")

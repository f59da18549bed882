"""KubeRay's manifests: its CRDs' schema, its operator's own rules, Kubernetes' schema of pods, and what we want."""

import json
import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from tuner.base import environment

FOLDER = environment.ROOT / "clusters" / "kubernetes"
SCHEMA = yaml.safe_load(Path(__file__).with_name("kuberay.schema.yaml").read_text())
NEWEST = kubernetes_validate.latest_version()
GONE = object()

Steps = tuple[str | int, ...]


class Strict(yaml.SafeLoader):
    """Refuses what strict decoders of Kubernetes' tools refuse and PyYAML takes: a key twice, merge keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        if wrong := [key for key in keys if key == "<<" or keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"merged or twice: {wrong[0]}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def load(name: str) -> dict[str, Any]:
    return yaml.load((FOLDER / name).read_text(), Strict)


def walk(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, dict[str, Any]]]:
    """Yield every mapping of a manifest with the steps that lead to it."""
    if isinstance(value, dict):
        yield steps, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from walk(item, (*steps, key))


def complaints(manifest: dict[str, Any], version: str = NEWEST) -> list[tuple[Steps, str]]:
    """Return the place and the reason of all that Kubernetes' API server or the operator would refuse."""
    errors = Draft202012Validator(SCHEMA).iter_errors(manifest)
    found = [(tuple(error.absolute_path), error.message) for error in errors]
    pods: list[tuple[Steps, Any]] = [((), {})]  # for the manifest's own metadata
    for steps, node in walk(manifest):
        least, most = node.get("minReplicas"), node.get("maxReplicas")
        if isinstance(least, int) and isinstance(most, int) and least > most:
            found.append(((*steps, "minReplicas"), "over maxReplicas"))
        names = {"template", "submitterPodTemplate"} & set(node)
        pods += [((*steps, name), node[name]) for name in names]
    resource = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": manifest.get("metadata", {})}
    for steps, template in pods:
        try:
            kubernetes_validate.validate({**resource, "template": template}, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            first, *rest = error.absolute_path
            found.append(((*steps, *rest) if first == "template" else (first, *rest), error.message))
    return found


def changed(manifest: dict[str, Any], *changes: tuple[Steps, Any]) -> dict[str, Any]:
    """Return a copy of a manifest with values set, or taken out where they are GONE."""
    result = json.loads(json.dumps(manifest))  # two aliases of one value become two values
    for (*steps, last), value in changes:
        target = result
        for step in steps:
            target = target[step]
        if value is GONE:
            del target[last]
        else:
            target[last] = value
    return result


SPEC: Steps = ("spec",)
HEAD: Steps = ("spec", "headGroupSpec")
HEAD_POD: Steps = (*HEAD, "template", "spec")
WORKERS: Steps = ("spec", "workerGroupSpecs", 0)
WORKER: Steps = (*WORKERS, "template", "spec", "containers", 0)
MEMORY: Steps = (*WORKER, "resources", "limits", "memory")
AT, UP = None, -1  # where a change is complained of: at its own place, in the mapping that holds it

# a change to raycluster.yaml, where it is complained of, and what the complaint says
CLUSTER_CHANGES: list[tuple[Steps, Any, int | Steps | None, str]] = [
    (("apiVersion",), "ray.io/v1alpha1", AT, "'ray.io/v1' was expected"),
    (("kind",), "RayClusters", AT, "not one of"),
    (("metadata", "name"), "Robust_Tuner", AT, "does not match"),
    (("metadata", "name"), "r" * 54, AT, "too long"),
    # fields that are missing, misspelt or of another group
    (("metadata",), GONE, UP, "'metadata' is a required property"),
    (SPEC, GONE, UP, "'spec' is a required property"),
    (HEAD, GONE, UP, "'headGroupSpec' is a required property"),
    ((*HEAD, "template"), GONE, UP, "'template' is a required property"),
    ((*WORKERS, "groupName"), GONE, UP, "'groupName' is a required property"),
    ((*WORKER, "name"), GONE, UP, "'name' is a required property"),
    ((*WORKER, "env", 7, "valueFrom", "secretKeyRef", "key"), GONE, UP, "'key' is a required property"),
    (("metadata", "lables"), {}, UP, "'lables' was unexpected"),
    ((*SPEC, "rayversion"), "2.60.0", UP, "'rayversion' was unexpected"),
    ((*SPEC, "autoscalerOptions", "idleTimeout"), 600, UP, "'idleTimeout' was unexpected"),
    ((*SPEC, "authOptions", "secret"), "robust-tuner", UP, "'secret' was unexpected"),
    ((*HEAD, "replicas"), 1, UP, "'replicas' was unexpected"),
    ((*HEAD, "template", "metadata"), {"generateName": "head-"}, AT, "'generateName' was unexpected"),
    ((*WORKERS, "name"), "gpu", UP, "'name' was unexpected"),
    ((*HEAD_POD, "serviceAcountName"), "robust-tuner", UP, "'serviceAcountName' was unexpected"),
    ((*WORKER, "env", 0, "valeu"), "auto", UP, "'valeu' was unexpected"),
    # types
    ((*SPEC, "rayVersion"), 2.6, AT, "is not of type 'string'"),
    ((*SPEC, "enableInTreeAutoscaling"), "true", AT, "is not of type 'boolean'"),
    ((*SPEC, "autoscalerOptions", "idleTimeoutSeconds"), "10m", AT, "is not of type 'integer'"),
    ((*HEAD, "rayStartParams", "num-cpus"), 0, AT, "is not of type 'string'"),
    ((*WORKERS, "minReplicas"), "0", AT, "is not of type 'integer'"),
    ((*WORKERS, "replicas"), 0.5, AT, "is not of type 'integer'"),
    ((*WORKERS, "maxReplicas"), 2**31, AT, "greater than the maximum"),
    ((*SPEC, "workerGroupSpecs"), {}, AT, "is not of type 'array'"),
    ((*HEAD_POD, "securityContext", "runAsUser"), "ray", AT, "is not of type 'integer'"),
    ((*HEAD_POD, "containers"), {}, AT, "is not of type 'array'"),
    ((*WORKER, "env", 0, "value"), 1, AT, "is not of type 'string'"),
    (MEMORY, "28GB", AT, "does not match"),
    (MEMORY, 2.5, AT, "is not of type 'integer', 'string'"),
    # enums
    ((*SPEC, "authOptions", "mode"), "Token", AT, "not one of"),
    ((*SPEC, "autoscalerOptions", "version"), "v3", AT, "not one of"),
    ((*SPEC, "autoscalerOptions", "upscalingMode"), "Fast", AT, "not one of"),
    ((*SPEC, "upgradeStrategy"), {"type": "Rolling"}, (*SPEC, "upgradeStrategy", "type"), "not one of"),
    ((*SPEC, "managedBy"), "us", AT, "not one of"),
    ((*HEAD, "serviceType"), "clusterIP", AT, "not one of"),
    # the operator's rules
    ((*WORKERS, "minReplicas"), -1, AT, "less than the minimum"),
    ((*WORKERS, "minReplicas"), 9, AT, "over maxReplicas"),
    ((*WORKERS, "suspend"), True, AT, "False was expected"),
    ((*WORKERS, "rayStartParams", "labels"), "a=b", AT, "should not be valid"),
    ((*SPEC, "autoscalerOptions", "idleTimeoutSeconds"), -1, AT, "less than the minimum"),
    ((*SPEC, "rayVersion"), GONE, UP, "'rayVersion' is a required property"),
    ((*SPEC, "rayVersion"), "2.51.1", AT, "does not match"),
    ((*HEAD, "resources"), {"CPU": "0"}, (*HEAD, "rayStartParams", "num-cpus"), "should not be valid"),
    ((*HEAD_POD, "containers"), [], AT, "should be non-empty"),
    ((*HEAD_POD, "restartPolicy"), "Always", AT, "'Never' was expected"),
    ((*HEAD_POD, "containers", 0, "env", 0, "name"), "RAY_enable_autoscaler_v2", UP, "should not be valid"),
]
# the same of rayjob.yaml
JOB_CHANGES: list[tuple[Steps, Any, int | Steps | None, str]] = [
    (("metadata", "name"), "j" * 48, AT, "too long"),
    ((*SPEC, "entryPoint"), "python launch.py", UP, "'entryPoint' was unexpected"),
    ((*SPEC, "entrypoint"), ["python", "launch.py"], AT, "is not of type 'string'"),
    ((*SPEC, "entrypointNumCpus"), "1", AT, "is not of type 'number'"),
    ((*SPEC, "runtimeEnvYAML"), {"pip": []}, AT, "is not of type 'string'"),
    ((*SPEC, "shutdownAfterJobFinishes"), "no", AT, "is not of type 'boolean'"),
    ((*SPEC, "preRunningDeadlineSeconds"), 0, AT, "less than the minimum"),
    ((*SPEC, "activeDeadlineSeconds"), 0, AT, "less than the minimum"),
    ((*SPEC, "submissionMode"), "http", AT, "not one of"),
    (
        (*SPEC, "submitterPodTemplate"),
        {"spec": {}},
        (*SPEC, "submitterPodTemplate", "spec"),
        "'containers' is a required",
    ),
    ((*SPEC, "clusterSelector"), GONE, UP, "'rayClusterSpec' is a required property"),
    ((*SPEC, "clusterSelector"), {}, UP, "'rayClusterSpec' is a required property"),
    ((*SPEC, "clusterSelector"), {"cluster": "robust-tuner"}, AT, "'ray.io/cluster' is a required property"),
    ((*SPEC, "clusterSelector", "ray.io/cluster"), "", AT, "should be non-empty"),
    ((*SPEC, "rayClusterSpec"), {}, AT, "'headGroupSpec' is a required property"),
    # what a cluster that is not the job's own does not allow
    ((*SPEC, "backoffLimit"), 1, AT, "greater than the maximum"),
    ((*SPEC, "submissionMode"), "SidecarMode", AT, "should not be valid"),
    ((*SPEC, "suspend"), True, AT, "False was expected"),
    (
        (*SPEC, "deletionStrategy"),
        {"deletionRules": [{"policy": "DeleteCluster", "condition": {"jobStatus": "FAILED"}}]},
        (*SPEC, "deletionStrategy", "deletionRules", 0, "policy"),
        "not one of",
    ),
    # what only goes with a cluster that is shut down, and the two styles of deletion
    ((*SPEC, "ttlSecondsAfterFinished"), 60, (*SPEC, "shutdownAfterJobFinishes"), "True was expected"),
    ((*SPEC, "deletionStrategy"), {}, AT, "not valid under any of the given schemas"),
    ((*SPEC, "deletionStrategy"), {"onSuccess": {}}, AT, "'onFailure' is a dependency of 'onSuccess'"),
    (
        (*SPEC, "deletionStrategy"),
        {"deletionRules": [{"policy": "DeleteSelf", "condition": {"ttlSeconds": 60}}]},
        (*SPEC, "deletionStrategy", "deletionRules", 0, "condition"),
        "not valid under any of the given schemas",
    ),
]
CHANGES = [("raycluster.yaml", *row) for row in CLUSTER_CHANGES] + [
    ("rayjob.yaml", *row) for row in JOB_CHANGES
]


@pytest.mark.parametrize("version", ["1.28", NEWEST])  # KubeRay's reference is made for 1.28
@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_the_manifests_pass(name: str, version: str) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert complaints(load(name), version) == []


@pytest.mark.parametrize(("name", "steps", "value", "where", "reason"), CHANGES)
def test_a_wrong_manifest_is_refused_with_the_place(
    name: str, steps: Steps, value: Any, where: int | Steps | None, reason: str
) -> None:
    manifest = load(name)
    place = where if isinstance(where, tuple) else steps[:where]
    found = complaints(changed(manifest, (steps, value)))
    assert any(at == place and reason in said for at, said in found), found


def test_what_else_is_allowed_passes() -> None:
    """Guards against a schema that refuses too much."""
    cluster, job = load("raycluster.yaml"), load("rayjob.yaml")
    own: list[tuple[Steps, Any]] = [
        ((*SPEC, "clusterSelector"), GONE),
        ((*SPEC, "rayClusterSpec"), cluster["spec"]),
    ]
    rules = {
        "deletionRules": [{"policy": "DeleteSelf", "condition": {"jobStatus": "SUCCEEDED", "ttlSeconds": 60}}]
    }
    old = {"onSuccess": {"policy": "DeleteNone"}, "onFailure": {"policy": "DeleteSelf"}}
    shut = ((*SPEC, "shutdownAfterJobFinishes"), True)
    for manifest in (
        changed(cluster, ((*WORKERS, "minReplicas"), GONE), ((*WORKERS, "maxReplicas"), GONE)),
        changed(cluster, ((*WORKERS, "resources"), {"GPU": "1"}), ((*WORKERS, "idleTimeoutSeconds"), 60)),
        changed(
            cluster, ((*SPEC, "enableInTreeAutoscaling"), False), ((*HEAD_POD, "restartPolicy"), "Always")
        ),
        changed(cluster, ((*SPEC, "authOptions"), GONE), ((*SPEC, "rayVersion"), GONE)),
        changed(cluster, ((*SPEC, "rayVersion"), "2.100.0"), (MEMORY, 30064771072)),
        changed(cluster, ((*HEAD, "template", "metadata"), {"labels": {"team": "a"}})),
        changed(job, *own, shut, ((*SPEC, "ttlSecondsAfterFinished"), 60), ((*SPEC, "backoffLimit"), 2)),
        changed(job, *own, shut, ((*SPEC, "suspend"), True), ((*SPEC, "submissionMode"), "SidecarMode")),
        changed(job, ((*SPEC, "submissionMode"), "HTTPMode"), ((*SPEC, "deletionStrategy"), rules)),
        changed(job, ((*SPEC, "deletionStrategy"), old), ((*SPEC, "entrypointNumCpus"), 0.5)),
    ):
        assert complaints(manifest) == []


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: &a {b: 1}\nc: {<<: *a}", "- {a: {b: 1, b: 1}}"])
def test_a_key_twice_and_a_merge_key_are_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="merged or twice"):
        yaml.load(text, Strict)


def test_what_we_want_of_the_manifests() -> None:
    cluster, job = load("raycluster.yaml"), load("rayjob.yaml")
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "robust-tuner"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        for container in group["template"]["spec"]["containers"]:
            assert container["resources"]["limits"] == container["resources"]["requests"]
            for variable in container["env"]:
                secret = re.search(r"PASSWORD|USERNAME|TOKEN", variable["name"])
                assert ("valueFrom" if secret else "value") in variable
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert "rayClusterSpec" not in job["spec"]  # it would be passed over without a word
    assert job["spec"]["entrypoint"].startswith("python launch.py --study aoe_sigma")

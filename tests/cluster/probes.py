"""Programs that the tests run on a host or at the operator, as text for `python -c`."""

COUNT_CHECKPOINTS = r"""
import re, sys
import boto3
pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=sys.argv[1], Prefix=sys.argv[2])
keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
print(max([int(found[1]) for found in (re.search(r"epoch-(\d+)", key) for key in keys) if found], default=0))
"""

CHECK_TRIALS = r"""
import os, sys
import mlflow, optuna
run, trials = sys.argv[1], int(sys.argv[2])
storage = optuna.storages.RDBStorage(os.environ["TUNER_STUDY_STORAGE"])
found = {}
for name in (run, f"{run}/oe"):
    found[name] = optuna.load_study(study_name=name, storage=storage).trials
counted = [trial for several in found.values() for trial in several]
assert len(counted) == trials, {name: len(several) for name, several in found.items()}
states = [trial.state.name for trial in counted]
assert set(states) <= {"COMPLETE", "PRUNED"}, states
for name, several in found.items():
    assert [trial.number for trial in several] == list(range(len(several))), name
experiment = mlflow.get_experiment_by_name("aoe_sigma").experiment_id
parents = mlflow.search_runs([experiment], f"tags.run = '{run}'", output_format="list")
assert len(parents) == 1, parents
client = mlflow.MlflowClient()
children = mlflow.search_runs(
    [experiment], f"tags.mlflow.parentRunId = '{parents[0].info.run_id}'", output_format="list"
)
assert len(children) == trials, len(children)
for child in children:
    steps = [point.step for point in client.get_metric_history(child.info.run_id, "seconds")]
    assert steps == list(range(1, len(steps) + 1)), (child.data.tags, steps)
    assert child.info.status == "FINISHED", child.info.status
begun = [{key: stored["value"] for key, stored in trial.user_attrs.items()} for trial in counted]
attempts = [len(own.get("starts", own["trial"]["starts"])) for own in begun]
print("nothing lost;", "states", states, "attempts", attempts)
"""

SCAN = r"""
import os, subprocess, sys, urllib.error, urllib.request
host, *ports = sys.argv[1:]


def status(url, **headers):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5)
    except urllib.error.HTTPError as error:
        return error


def probe(port):
    try:
        answer = status(f"http://{host}:{port}/")
    except urllib.error.URLError as error:
        return "closed" if isinstance(error.reason, ConnectionRefusedError) else "no HTTP"
    except Exception:
        return "no HTTP"  # gRPC
    if answer.status == 200 and answer.read(7) == b"# HELP ":
        return "metrics"
    return str(answer.status)


for port in ports:
    print(port, probe(port))
if host != "127.0.0.1":
    ask = f"from ray._raylet import GcsClient; GcsClient(address='{host}:6379').get_all_node_info()"
    for what, variables in (
        ("without token", {"RAY_AUTH_MODE": "disabled"}),
        ("with another token", {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}),
        ("with the token", {"RAY_AUTH_MODE": "token"}),
    ):
        done = subprocess.run(
            [sys.executable, "-c", ask], env=os.environ | variables, capture_output=True, text=True
        )
        last = done.stderr.strip().splitlines()[-1:] if done.returncode else ["answered"]
        print(f"gcs {what}: {''.join(last).rpartition('exceptions.')[2][:60]}")
else:
    import psycopg2

    os.environ.pop("PGPASSFILE")
    print("jobs", status("http://127.0.0.1:8265/api/jobs/").status)
    url = "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=1"
    print("mlflow", status(url).status)
    print("mlflow by another name", status(url, Host="evil.example").status)
    try:
        psycopg2.connect(host=host, port=5433, user="tuner", dbname="studies")
        print("postgresql without password: answered")
    except psycopg2.OperationalError as error:
        print(f"postgresql without password: {type(error).__name__}")
"""

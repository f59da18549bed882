"""Writes a predictor as an MLflow model of two flavours, python_function and pytorch, which need no code of ours.

Both read one file, `data/predictor/model.pth`, and `code/robust_predictor.py`, which imports torch alone.
"""

import tempfile
from pathlib import Path
from typing import Any

from trainables.inference.registrable import SHIPPED, Registrable


class PredictorFlavor:
    """What `mlflow.models.Model.log` asks of a flavour."""

    __name__ = "robust_predictor"

    @staticmethod
    def save_model(path: str, mlflow_model: Any, predictor: Registrable) -> None:
        """Write the model's folder.

        Args:
            path: of the folder; it is made.
            predictor: what the model holds.
        """
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        columns = {
            "class_index": "long",
            "class_name": "string",
            "probability": "double",
            "outlier_score": "double",
            "is_ood": "boolean",
        }
        mlflow_model.metadata = {**(mlflow_model.metadata or {}), "predictor": dict(predictor.facts)}
        with tempfile.TemporaryDirectory(prefix="robust-tune-") as folder:
            data = Path(folder) / "predictor"
            data.mkdir()
            (data / "model.pth").write_bytes(predictor.pickled)
            (data / "pickle_module_info.txt").write_text("pickle")
            mlflow.pyfunc.save_model(
                path,
                loader_module=SHIPPED.stem,
                data_path=str(data),
                code_paths=[str(SHIPPED)],
                mlflow_model=mlflow_model,
                # no schema of the inputs: MLflow would hold them to one type of numbers and one number of axes
                signature=ModelSignature(
                    outputs=Schema([ColSpec(kind, name) for name, kind in columns.items()])
                ),
                # named, because MLflow would find them out by loading the model in a new process
                pip_requirements=[
                    f"mlflow=={mlflow.__version__}",
                    f"torch=={predictor.torch.partition('+')[0]}",
                ],
            )
        function = mlflow_model.flavors["python_function"]
        mlflow_model.add_flavor(
            "pytorch",
            model_data=function["data"],
            pytorch_version=predictor.torch,
            code=function["code"],
        )
        mlflow_model.save(str(Path(path) / "MLmodel"))

"""Softmax regression with SGD as a training program for Covey; numpy only. What is spoken: docs/trainers.md."""
import json
import math
import struct
import sys

import numpy as np

np.seterr(all="ignore")  # Numbers that overflow become inf or nan, and Covey handles those.


def read(path):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(size)), file.read()
    header.pop("__metadata__", None)
    kinds = {"F32": "<f4", "F64": "<f8"}
    cut = lambda entry: np.frombuffer(data[slice(*entry["data_offsets"])], kinds[entry["dtype"]])
    return {name: cut(entry).reshape(entry["shape"]).astype(np.float64) for name, entry in header.items()}


def write(path, tensors):
    header, blobs, at = {}, [], 0
    for name, values in tensors.items():
        blob = np.asarray(values, "<f8").tobytes()
        header[name] = {"dtype": "F64", "shape": np.shape(values), "data_offsets": [at, at + len(blob)]}
        blobs, at = blobs + [blob], at + len(blob)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def loss_and_gradient(model, x, label):
    """Cross entropy of one record and its gradient by kernel and bias."""
    logits = x @ model[KERNEL] + model[BIAS]
    weights = np.exp(logits - logits.max())
    errors = weights / weights.sum()
    loss = -math.log(errors[label]) if errors[label] > 0 else math.inf
    errors[label] -= 1
    return loss, {KERNEL: np.outer(x, errors), BIAS: errors}


def fit(task):
    model, data, optimizer = read(task["parameters"]), read(task["data"]), task["optimizer"]
    if optimizer["kind"] != "sgd":
        raise ValueError("only the optimizer sgd is known")
    labels = data["labels"].astype(int)
    random = np.random.default_rng(task["seed"])
    velocity = {name: np.zeros_like(values) for name, values in model.items()}
    for _ in range(task["epochs"]):
        order, total = random.permutation(len(labels)), 0.0
        for start in range(0, len(labels), task["batchSize"]):
            batch = order[start : start + task["batchSize"]]
            results = [loss_and_gradient(model, data["features"][i], labels[i]) for i in batch]
            total += sum(loss for loss, _ in results)
            for name in model:
                mean = sum(gradient[name] for _, gradient in results) / len(batch)
                velocity[name] = optimizer["momentum"] * velocity[name] + mean + optimizer["weightDecay"] * model[name]
                model[name] = model[name] - optimizer["stepSize"] * velocity[name]
    write(task["result"], model)
    loss = total / len(labels)
    return {"type": "fitted", "numExamples": len(labels), "metrics": {"loss": loss} if math.isfinite(loss) else {}}


def record_gradients(task):
    model, data = read(task["parameters"]), read(task["data"])
    labels, records = data["labels"].astype(int), read(task["records"])["records"].astype(int)
    # One record at a time: its row must not depend on any other record, not even in the last bit.
    results = [loss_and_gradient(model, data["features"][i], labels[i]) for i in records]
    rows = {name: np.array([gradient[name] for _, gradient in results]) for name in model}
    shaped = {name: values.reshape((len(records), *model[name].shape)) for name, values in rows.items()}
    write(task["result"], {"losses": [loss for loss, _ in results], **shaped})
    return {"type": "gradients"}


def hello(task):
    global KERNEL, BIAS
    (kernel, bias) = task["tensors"]
    if kernel["shape"] != [task["featureLength"], task["classes"]] or bias["shape"] != [task["classes"]]:
        raise ValueError("expected a kernel and a bias of a softmax regression")
    KERNEL, BIAS = kernel["name"], bias["name"]
    return {"type": "ready", "protocol": "covey-trainer/1", "layout": task["layout"]}


HANDLERS = {"hello": hello, "fit": fit, "recordGradients": record_gradients}
for line in sys.stdin:
    task = json.loads(line)
    try:
        answer = HANDLERS[task["type"]](task)
    except Exception as error:
        answer = {"type": "failed", "message": f"{type(error).__name__}: {error}"}
    print(json.dumps({"id": task.get("id"), **answer}), flush=True)

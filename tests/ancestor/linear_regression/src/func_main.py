# What it is: the model's code as the Python runtime of 2018 calls it, one function per signature.
# What it is not: run by our tests; here it is payload.
# What must stay true: the function's name is the signature's, paths are those inside the image.
import json

import hydro_serving_grpc as hs

with open("/model/files/weights.json") as weights_file:
    WEIGHTS = json.load(weights_file)


def infer(x):
    rows = zip(*[iter(x.double_val)] * 2)
    y = [sum(w * v for w, v in zip(WEIGHTS["w"], row)) + WEIGHTS["b"] for row in rows]
    shape = hs.TensorShapeProto(dim=[hs.TensorShapeProto.Dim(size=len(y))])
    return hs.PredictResponse(outputs={"y": hs.TensorProto(dtype=hs.DT_DOUBLE, double_val=y, tensor_shape=shape)})

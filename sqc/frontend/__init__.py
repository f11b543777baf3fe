"""Import of ONNX models, and export.

    importer.py     import_onnx: walks the nodes, collects what is not supported, opens the batch
    model_file.py   bytes, files and protos to a checked ModelProto
    inputs.py       shapes and element types of the graph's inputs
    node.py         Node: what a handler sees of an ONNX node and how it emits ops
    table.py        operator type -> handler
    folding.py      results and types of nodes, as onnx itself evaluates and infers them
    batch.py        makes a graph hold for any batch
    quantized.py    constants that are stored as levels
    export.py       export_onnx: graphs, as float or rounded ones, as ONNX
    interpolation.py   the weights of Resize, for import and export
    elementwise.py, convolution.py, pooling.py, linear.py, movement.py, normalization.py, quantization.py,
    dynamic.py   the handlers

To add an operator, write a handler into the file of its family::

    @handler("LeakyRelu")
    def leaky_relu(node: Node) -> Value:
        return node.result("leaky_relu", node.value(0), alpha=node.number("alpha"))
"""

from sqc.frontend.importer import import_onnx

__all__ = ["import_onnx"]

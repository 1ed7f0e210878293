"""Optional ways to execute the image towers on a CPU, each faster than torch and a little less exact.

    onnxruntime     int8 weights, activations scaled as they come        extra `onnxruntime`
    openvino        bfloat16 where the processor has it                  extra `openvino`
    openvino-int8   int8 weights and activations, calibrated once        extra `openvino`

A tower goes torch -> ONNX file -> the runtime's own file. That is done once for the same weights and versions, and kept
on disk. At every start the loaded engine embeds a few crops, and is refused if the result is too far from that of torch
in float32: a processor or a version that computes something else is an error, not a worse mask.
"""

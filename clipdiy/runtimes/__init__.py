"""Optional ways to execute the image towers on a CPU, each faster than torch and a little less exact.

    onnxruntime     int8 weights, activations scaled as they come        extra `onnxruntime`
    openvino        bfloat16 where the processor has it                  extra `openvino`
    openvino-int8   int8 weights and activations, calibrated once        extra `openvino`

A tower goes torch -> ONNX file -> the runtime's own file. That is done once and kept on disk by what went into it.
At every start the loaded engine shows a few crops its embeddings next to torch's in float32, and is refused if they
differ too much: a processor or a version that computes something else is an error, not a worse mask.
"""

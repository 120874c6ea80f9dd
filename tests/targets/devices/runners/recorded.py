"""What the runners printed, as public reports of several years have it: the format alone."""

# ruff: noqa: E501

BENCHMARK_2018 = """\
STARTING!
Num runs: [50]
Loaded model mobilenet_v1_1.0_224_quant.tflite
resolved reporter
Initialized session in 4.452ms
Running benchmark for 1 iterations
count=1 curr=146161

Running benchmark for 50 iterations
count=50 first=137789 curr=137254 min=137079 max=143416 avg=137722 std=896

Average inference timings in us: Warmup: 146161, Init: 4452, no stats: 137722
"""

BENCHMARK_2019 = """\
Timings (microseconds): count=50 first=79449 curr=81350 min=77385 max=88213 avg=79732 std=1929
Memory (bytes): count=0
31 nodes observed

Average inference timings in us: Warmup: 83235, Init: 38467, Inference: 79760.9
"""

BENCHMARK_2021 = """\
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=3512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion.
Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859
"""

BENCHMARK_2024 = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Use xnnpack: [0]
INFO: The input model file size (MB): 67.3128
INFO: Initialized session in 5.579ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 p5=1238753 median=1239807 p95=1247415

INFO: Inference timings in us: Init: 5579, First inference: 1357602, Warmup (avg): 1.3576e+06, Inference (avg): 1.24027e+06
INFO: Memory footprint delta from the start of the tool (MB): init=6.36328 overall=109.832
"""

BENCHMARK_LOGCAT = """\
I tflite  : count=4 first=187533 curr=205990 min=187533 max=221121 avg=211669 std=13000
I tflite  : count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533
I tflite  : Inference timings in us: Init: 92318, First inference: 187533, Warmup (avg): 211669, Inference (avg): 145528
"""

BENCHMARK_ALL_THE_SAME = """\
count=1 curr=12
count=5 curr=12(all same)
Inference timings in us: Init: 100, First inference: 12, Warmup (avg): 12, Inference (avg): 12
"""

BENCHMARK_NO_WARM_UP = """\
INFO: count=0
INFO: count=3 first=50 curr=40 min=40 max=50 avg=43.3333 std=4 p5=40 median=40 p95=50
INFO: Inference timings in us: Init: 100, First inference: 0, Warmup (avg): nan, Inference (avg): 43.3333
"""

BENCHMARK_HELP = """\
usage: ./benchmark_model <flags>
Flags:
\t--num_runs=50                  \tint32\toptional\texpected number of runs, see also min_secs, max_secs
\t--min_secs=1                   \tfloat\toptional\tminimum number of seconds to rerun for
\t--max_secs=150                 \tfloat\toptional\tmaximum number of seconds to rerun for
\t--num_threads=-1               \tint32\toptional\tnumber of threads
\t--warmup_runs=1                \tint32\toptional\tminimum number of runs performed on initialization
\t--warmup_min_secs=0.5          \tfloat\toptional\tminimum number of seconds to rerun for
\t--graph=                       \tstring\trequired\tgraph file name
\t--input_layer=                 \tstring\toptional\tinput layer names
\t--input_layer_shape=           \tstring\toptional\tinput layer shape
\t--input_layer_value_range=     \tstring\toptional\tA map-like string representing value range
\t--input_layer_value_files=     \tstring\toptional\tA map-like string representing value file
\t--output_filepath=             \tstring\toptional\tFile path to export outputs layer as binary data.
\t--use_xnnpack=false            \tbool\toptional\texplicitly apply the XNNPACK delegate
"""

LITERT_PYTHON = """\
INFO: [cpu_registry.cc:75] XNNPACK CPU accelerator registered.

========================================
 BENCHMARK RESULTS
========================================
Model initialization:  7.20 ms
Warmup (first):        2.40 ms
Warmup (avg):          2.40 ms (1 runs)
Inference (avg):       2.18 ms (5 runs)
Inference (min):       2.05 ms
Inference (max):       2.31 ms
Inference (median):    2.21 ms
Inference (std):       0.10 ms
Fully accelerated:     False
========================================
"""

PERF_2019 = """\
Total time cost:58.8053
Total iterations:1000
Average time cost:58.8053 ms
Total run time:58.8102 s
Min Latency is 0.0559777sec
Max Latency is 0.0623472sec
P50 Latency is 0.0587108sec
P90 Latency is 0.0599845sec
"""

PERF_2020 = """\
Session creation time cost:0.133189 s
Total inference time cost:600.051 s
Total inference requests:7160
Average inference time cost:83.8059 ms
Total inference run time:600.102 s
"""

PERF_2022 = """\
Session creation time cost: 0.060941 s
First inference time cost: 84 ms
Total inference time cost: 0.843236 s
Total inference requests: 10
Average inference time cost: 84.3236 ms
Total inference run time: 0.8434 s
Number of inferences per second: 11.8568
Avg CPU usage: 90 %
Peak working set size: 158171136 bytes
Min Latency: 0.0838 s
P50 Latency: 0.0841 s
P999 Latency: 0.0861 s
"""

PERF_2025 = """\
Setting intra_op_num_threads to 1
Disabling intra-op thread spinning between runs
Session creation time cost: 0.217932 s
First inference time cost: 196 ms
Total inference time cost: 0.49481 s
Total inference requests: 5
Average inference time cost total: 98.961997 ms
Total inference run time: 0.494854 s
Number of inferences per second: 10.104
Avg CPU usage: 11 %
Peak working set size: 271122432 bytes
Avg CPU usage:11
Peak working set size:271122432
Runs:5
Min Latency: 0.0958204 s
Max Latency: 0.101519 s
P50 Latency: 0.0995086 s
P90 Latency: 0.101519 s
"""

PERF_ROWS = """\
m0123,0.0941,158171136,90,0
m0123,0.0842,158171136,90,1
m0123,0.0838,158171136,90,2
m0123,0.0846,158171136,90,3

Min Latency: 0.0838 s
P50 Latency: 0.0846 s
"""

PERF_ROWS_NEWER = """\
m0123,0.0001,9.41e-02,158171136,90,0
m0123,0.0001,0.0842,158171136,90,1
m0123,0.0001,0.0838,158171136,90,2
m0123,0.0001,0.0846,158171136,90,3
"""

PERF_HELP = """\
perf_test [options...] model_path [result_file]
Options:
\t-m [test_mode]: Specifies the test mode. Value could be 'duration' or 'times'.
\t-e [cpu|cuda|dnnl]: Specifies the provider.
\t-r [repeated_times]: Specifies the repeated times if running in 'times' test mode.Default:1000.
"""

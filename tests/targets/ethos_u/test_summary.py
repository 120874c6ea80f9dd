"""What Vela printed and its table, as recorded from Vela 5.2.0, read back."""

from qcompile.targets.ethos_u.summary import read_estimates, read_reasons

PRINTED = """\
TfLiteReader: Built-in options type 'CastOptions' is not yet implemented and will be ignored.

Warning (supported operators) operator: LOG_SOFTMAX, ofm: 'e'
Reason: Unsupported opType

Warning (supported operators) operator: QUANTIZE, ofm: 'it''s, named'
Reason: Operation has tensor with unsupported DataType Float32 (e)
Feature-map dataTypes must be one of {"INT16", "INT32", "INT64", "INT8", "UINT8"}

Warning (supported operators) operator: RELU, ofm: 'e'
Reason: a second one for the same result

Network summary for sp
CPU operators = 2 (41.7%)
   CPU: Passthrough = e (outputs [1, 8, 6, 6])
"""


def test_reasons_are_vela_s_own_words_by_result() -> None:
    assert read_reasons(PRINTED) == {
        "e": "Unsupported opType",
        "it''s, named": "Operation has tensor with unsupported DataType Float32. Feature-map "
        'dataTypes must be one of {"INT16", "INT32", "INT64", "INT8", "UINT8"}',
    }
    assert read_reasons(PRINTED.replace("\n", "\r\n")) == read_reasons(PRINTED)
    assert read_reasons("") == {}
    last = "Warning (supported operators) operator: GELU, ofm: 'g'\nReason: no newline behind"
    assert read_reasons(last) == {"g": "no newline behind"}


def test_memory_is_in_bytes_and_what_is_no_figure_is_left_out() -> None:
    row = {
        "cycles_total": "89900",
        "cycles_npu": "88902",
        "inferences_per_second": "nan",
        "sram_memory_used": "21.671875",
        "dram_memory_used": "0.0",
        "off_chip_flash_memory_used": "30.375",
        "nn_macs": "",
    }
    assert read_estimates(row) == {
        "cycles": 89900,
        "npu_cycles": 88902,
        "sram_bytes": 22192,
        "dram_bytes": 0,
        "flash_bytes": 31104,
    }

// Test bench of nmllm_attention: the engine with memories of queries and stop prices, loaded one word per cycle.
`default_nettype none

module nmllm_attention_tb #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned HEAD_DIM = 16,
    parameter int unsigned GROUP = 4,
    parameter int unsigned SLOTS = 4,
    parameter int unsigned QUERY_WORDS = 1024,
    localparam int unsigned ROWS = nmllm_pkg::KV_BYTES_PER_ENGINE / (2 * HEAD_DIM + 1),
    localparam int unsigned CONTEXT_BITS = $clog2((ROWS < 8192 ? ROWS : 8192) + 1),
    localparam int unsigned ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1,
    localparam int unsigned SLOT_BITS = SLOTS > 1 ? $clog2(SLOTS) : 1,
    localparam int unsigned WORDS = HEAD_DIM > LANES ? HEAD_DIM / LANES : 1,
    localparam int unsigned WORD_BITS = WORDS > 1 ? $clog2(WORDS) : 1
) (
    input  logic                          clk,
    input  logic                          rst,
    input  logic                          cfg_valid,
    input  logic [            23:0]       cfg_address,
    input  logic [            63:0]       cfg_data,
    input  logic                          load_query,
    input  logic                          load_stop,
    input  logic [            14:0]       load_word,
    input  logic [       LANES-1:0][31:0] load_data,
    input  logic                          kv_valid,
    input  logic                          kv_is_value,
    input  logic [   SLOT_BITS-1:0]       kv_slot,
    input  logic [CONTEXT_BITS-1:0]       kv_position,
    input  logic [    ROW_BITS-1:0]       base,
    input  logic [   WORD_BITS-1:0]       kv_word,
    input  logic [             4:0]       kv_exponent,
    input  logic [       LANES-1:0][7:0]  kv_data,
    input  logic                          start,
    input  logic [   SLOT_BITS-1:0]       slot,
    input  logic [CONTEXT_BITS-1:0]       context_size,
    input  logic [       GROUP-1:0][31:0] maximum,
    output logic                          done,
    output logic                          output_valid,
    output logic [            14:0]       output_word,
    output logic [       LANES-1:0]       output_mask,
    output logic [       LANES-1:0][31:0] output_data,
    output logic [            47:0]       count_encode_elements,
    output logic [            47:0]       count_query_spikes,
    output logic [            47:0]       count_score_operations,
    output logic [            47:0]       count_softmax_elements,
    output logic [            47:0]       count_maximum_elements,
    output logic [            47:0]       count_probability_spikes,
    output logic [            47:0]       count_value_operations,
    output logic [            47:0]       count_divisions,
    output logic [            47:0]       count_attention_values,
    output logic [            47:0]       count_kv_bits_read,
    output logic [            47:0]       count_kv_bits_written,
    output logic [            47:0]       count_score_bits_read,
    output logic [            47:0]       count_score_bits_written,
    output logic [            47:0]       count_words_read,
    output logic [            47:0]       count_words_written
);
  localparam int unsigned ADDRESS_BITS = $clog2(QUERY_WORDS);

  logic read_enable, write_enable, write_output;
  logic [14:0] write_word;
  // The memories of the bench are smaller than a query vector may be.
  // verilator lint_off UNUSEDSIGNAL
  logic [14:0] read_word, query_word;
  // verilator lint_on UNUSEDSIGNAL
  logic [LANES-1:0] write_mask;
  logic [LANES-1:0][31:0] query_data, stop_data, write_data;
  logic write_rest;

  assign write_rest = write_enable && !write_output;
  assign query_word = load_query ? load_word : write_word;
  assign output_valid = write_enable && write_output;
  assign output_word = write_word;
  assign output_mask = write_mask;
  assign output_data = write_data;

  nmllm_attention #(
      .HEAD_DIM(HEAD_DIM),
      .GROUP(GROUP),
      .SLOTS(SLOTS)
  ) u_engine (
      .*
  );

  for (genvar i = 0; i < LANES; ++i) begin : g_lane
    nmllm_ram #(
        .WIDTH(32),
        .DEPTH(QUERY_WORDS)
    ) u_query (
        .clk,
        .write_enable(load_query || (write_rest && write_mask[i])),
        .write_address(query_word[ADDRESS_BITS-1:0]),
        .write_data(load_query ? load_data[i] : write_data[i]),
        .read_enable,
        .read_address(read_word[ADDRESS_BITS-1:0]),
        .read_data(query_data[i])
    );
    nmllm_ram #(
        .WIDTH(32),
        .DEPTH(QUERY_WORDS)
    ) u_stop (
        .clk,
        .write_enable(load_stop),
        .write_address(load_word[ADDRESS_BITS-1:0]),
        .write_data(load_data[i]),
        .read_enable,
        .read_address(read_word[ADDRESS_BITS-1:0]),
        .read_data(stop_data[i])
    );
  end
endmodule

`default_nettype wire

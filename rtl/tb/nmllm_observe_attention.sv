// Results of an attention engine, in the order in which it computes them (docs/reference/rtl/verification.md, Lockstep). The first word of each is {key/value head of the
// engine[31:16], query head of the group[15:0]}, the others:
//   query_spike        phase from the most significant, element, negative
//   score              key, z
//   probability_spike  key, phase k, negative; word by word of keys, heads of a set inside a word
//   value_sum          element, sum
`default_nettype none

module nmllm_observe_attention #(
    parameter int unsigned LANES = 8,
    parameter int unsigned KEY_LANES = 16,
    parameter int unsigned SOFTMAX_LANES = 8,
    parameter int unsigned SET = 1,
    parameter int unsigned PHASES = 11,
    parameter int unsigned QUERY_PHASES = 10,
    parameter int unsigned SUM_BITS = 26,
    parameter int unsigned DIM_BITS = 5
) (
    input logic                                       clk,
    input logic                                       rst,
    input logic [             15:0]                   slot,
    input logic [             31:0]                   context_size,
    // query encoder
    input logic [        LANES-1:0][QUERY_PHASES-1:0] query_fired,
    input logic [        LANES-1:0][QUERY_PHASES-1:0] query_negative,
    input logic [     DIM_BITS-1:0]                   query_element,
    input logic [             15:0]                   query_head,
    // scores
    input logic [          SET-1:0]                   z_valid,
    input logic [             15:0]                   z_head,  // first one of the set
    input logic [             31:0]                   z_block,
    input logic [          SET-1:0][KEY_LANES-1:0][23:0] z,
    // probabilities of a set, values and outputs of one head
    input logic [             15:0]                   head,
    input logic [             15:0]                   coded_head,  // first one of the set
    input logic                                       coded,
    input logic [             31:0]                   coded_word,
    input logic [          SET-1:0][SOFTMAX_LANES-1:0][PHASES-1:0] coded_fired,
    input logic [          SET-1:0][SOFTMAX_LANES-1:0][PHASES-1:0] coded_negative,
    input logic [     DIM_BITS-1:0]                   sum_element,
    input logic [        LANES-1:0][SUM_BITS-1:0]     sums,
    input logic                                       sums_taken,  // in the cycle before, the lanes of the mask
    input logic [        LANES-1:0]                   sums_mask
);
  import "DPI-C" function int nmllm_channel(input string path, input string signal_name);
  import "DPI-C" function void nmllm_observe(input int channel, input longint cycle, input int a, input int b, input int c, input int d);

  localparam int unsigned LEAST_PHASE = 5;
  int query_spikes, scores, probability_spikes, value_sums;
  initial begin
    query_spikes = nmllm_channel($sformatf("%m"), "query_spike");
    scores = nmllm_channel($sformatf("%m"), "score");
    probability_spikes = nmllm_channel($sformatf("%m"), "probability_spike");
    value_sums = nmllm_channel($sformatf("%m"), "value_sum");
  end

  logic [DIM_BITS-1:0] element_q;
  logic [LANES-1:0][SUM_BITS-1:0] sums_q;
  always_ff @(posedge clk) begin
    if (query_fired != '0 && !rst) begin
      for (int i = 0; i < int'(LANES); i++) begin
        for (int t = 0; t < int'(QUERY_PHASES); t++) begin
          if (query_fired[i][t])
            nmllm_observe(query_spikes, $time, {slot, query_head}, t, 32'(DIM_BITS'(32'(query_element) + i)), 32'(query_negative[i][t]));
        end
      end
    end
    for (int h = 0; h < int'(SET); h++) begin
      if (z_valid[h] && !rst) begin
        for (int a = 0; a < int'(KEY_LANES); a++) begin
          if (z_block * KEY_LANES + a < context_size)
            nmllm_observe(scores, $time, {slot, z_head + 16'(h)}, z_block * KEY_LANES + a, 32'(signed'(z[h][a])), 0);
        end
      end
    end
    if (coded && !rst) begin
      for (int h = 0; h < int'(SET); h++) begin
        for (int i = 0; i < int'(SOFTMAX_LANES); i++) begin
          for (int k = int'(PHASES) - 1; k >= 0; k--) begin
            if (coded_fired[h][i][k])
              nmllm_observe(probability_spikes, $time, {slot, coded_head + 16'(h)}, coded_word * SOFTMAX_LANES + i, LEAST_PHASE + k, 32'(coded_negative[h][i][k]));
          end
        end
      end
    end
    element_q <= sum_element;
    sums_q <= sums;
    if (sums_taken && !rst) begin
      for (int i = 0; i < int'(LANES); i++) begin
        if (sums_mask[i]) nmllm_observe(value_sums, $time, {slot, head}, 32'(DIM_BITS'(32'(element_q) + i)), 32'(signed'(sums_q[i])), 0);
      end
    end
  end
endmodule

bind nmllm_attention nmllm_observe_attention #(
    .LANES(LANES), .KEY_LANES(KEY_LANES), .SOFTMAX_LANES(SOFTMAX_LANES), .SET(SET), .PHASES(PHASES), .QUERY_PHASES(QUERY_PHASES),
    .SUM_BITS(SUM_BITS), .DIM_BITS(DIM_BITS)) observe (
    .clk, .rst, .slot(16'(slot_q)), .context_size(32'(context_q)), .query_fired(encoder_fired), .query_negative(encoder_negative),
    .query_element(encoder_element), .query_head(16'(encoder_head)), .z_valid, .z_head(16'(z_set) * 16'(SET)),
    .z_block(32'(z_block)), .z, .head(16'(head_q)), .coded_head(16'(set_q) * 16'(SET)), .coded(coded_valid && coded_ready), .coded_word(32'(coded_word)), .coded_fired,
    .coded_negative, .sum_element(read_element), .sums, .sums_taken(output_write), .sums_mask(output_mask));

`default_nettype wire

// Query encoder `phase` of an attention engine: signed-digit phases of the heads of a group, one after another (numerics.md, Attention).
//
// Starts with `start`; in the cycle after, and then without a gap, `working` is high for P(D) cycles a phase of each head, `done` in the last of
// them. In each, one word of remainders is read, compared with its stop prices and written back, and its spikes are given out.
// Path of a cycle: R >> k, sum, comparison, remainder.
`default_nettype none

module nmllm_attention_encoder #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned HEAD_DIM = 64,
    parameter int unsigned GROUP = 4,
    parameter int unsigned PHASES = 10,
    localparam int unsigned LANE_BITS = $clog2(LANES),
    localparam int unsigned DIM_BITS = $clog2(HEAD_DIM + 1),
    localparam int unsigned HEAD_BITS = GROUP > 1 ? $clog2(GROUP) : 1,
    localparam int unsigned HEADS_BITS = $clog2(GROUP + 1),
    localparam int unsigned SPIKE_BITS = $clog2(LANES * PHASES + 1)
) (
    input  logic                             clk,
    input  logic                             rst,
    // command
    input  logic                             start,
    input  logic [    DIM_BITS-1:0]          head_dim,
    input  logic [  HEADS_BITS-1:0]          heads,
    input  logic [             3:0]          phases_allowed,
    input  logic [            14:0]          first,  // element of the query vector at which the first head begins
    input  logic [       GROUP-1:0][31:0]    maximum,  // largest magnitude of every head
    output logic                             working,
    output logic                             done,
    // remainders and stop prices: data in the cycle after the address
    output logic                             read_enable,
    output logic [            14:0]          read_word,
    input  logic [       LANES-1:0][31:0]    query_data,
    input  logic [       LANES-1:0][31:0]    stop_data,
    output logic                             write_enable,
    output logic [            14:0]          write_word,
    output logic [       LANES-1:0]          write_mask,
    output logic [       LANES-1:0][31:0]    write_data,
    // spikes of a word: bit t of a lane is phase t
    output logic [       LANES-1:0][PHASES-1:0] fired,
    output logic [       LANES-1:0][PHASES-1:0] negative,
    output logic [  SPIKE_BITS-1:0]          spikes,  // their number
    output logic [    DIM_BITS-1:0]          element,  // of lane 0, modulo its width: only lanes of the mask fire
    output logic [   HEAD_BITS-1:0]          head,
    output logic [             3:0]          coded,  // words coded in this cycle, phase by phase
    // code of each head, from the cycle after `done` on
    output logic [       GROUP-1:0][3:0]     phases,
    output logic [       GROUP-1:0][4:0]     exponent  // k_q
);
  // word being read
  logic [3:0] phase_q;
  logic [DIM_BITS-1:0] word_q, words;
  logic last_word, head_ends, active, ends;
  logic [HEAD_BITS-1:0] head_now;
  logic [14:0] word;
  logic [LANE_BITS-1:0] lane;
  logic [LANES-1:0] mask;
  logic [4:0] top;
  logic [3:0] head_phases;

  // word being coded
  logic forward_q;
  logic [4:0] k_q;
  logic [3:0] coded_phase_q;
  logic [LANES-1:0][31:0] forward_data_q;
  logic [LANES-1:0] fires;
  logic [LANES-1:0][31:0] value, rest;

  assign last_word = word_q + DIM_BITS'(1) == words;
  assign head_ends = last_word && phase_q + 4'd1 == head_phases;
  assign read_enable = active;
  assign read_word = word + 15'(word_q);

  nmllm_attention_heads #(
      .LANES(LANES),
      .HEAD_DIM(HEAD_DIM),
      .GROUP(GROUP)
  ) u_heads (
      .clk,
      .rst,
      .start,
      .head_dim,
      .heads,
      .phases_allowed,
      .first,
      .maximum,
      .head_ends,
      .active,
      .ends,
      .head(head_now),
      .word,
      .words,
      .lane,
      .mask,
      .top,
      .head_phases,
      .phases,
      .exponent
  );

  always_ff @(posedge clk) begin
    if (active) begin
      word_q <= last_word ? '0 : word_q + DIM_BITS'(1);
      if (last_word) phase_q <= head_ends ? '0 : phase_q + 4'd1;
      write_word <= read_word;
      // The word written in this cycle is not yet seen by its read.
      forward_q <= working && read_word == write_word;
      forward_data_q <= write_data;
      k_q <= top - 5'(phase_q);
      head <= head_now;
      coded_phase_q <= phase_q;
      element <= DIM_BITS'({word_q, LANE_BITS'(0)}) - DIM_BITS'(lane);
      write_mask <= mask;
    end
    working <= active;
    done <= ends;
    if (rst) {working, done, word_q, phase_q} <= '0;
  end

  assign value = forward_q ? forward_data_q : query_data;
  assign write_enable = working;
  assign coded = 4'(working);

  nmllm_signed_digits #(
      .LANES(LANES)
  ) digits (
      .enable(working),
      .k({1'b0, k_q}),
      .value,
      .price(stop_data),
      .fires,
      .rest
  );

  always_comb begin
    fired = '0;
    negative = '0;
    spikes = '0;
    write_data = '0;
    if (working) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        fired[i][coded_phase_q] = fires[i] && write_mask[i];
        negative[i][coded_phase_q] = value[i][31];
        spikes += SPIKE_BITS'(fires[i] && write_mask[i]);
        write_data[i] = write_mask[i] ? rest[i] : value[i];
      end
    end
  end
endmodule

`default_nettype wire

// Query encoder of an attention engine: signed-digit phases of the heads of a group, one after another (numerics.md, Attention).
//
// Starts with `start`; in the cycle after, and then without a gap, `working` is high for P(D) cycles a phase of each head, `done` in the last of
// them. In each, one word of remainders is read, compared with its stop prices and written back, and its spikes are given out.
// Path of a cycle: R >> k, sum, comparison, remainder.
`default_nettype none

module nmllm_attention_encoder #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned HEAD_DIM = 64,
    parameter int unsigned GROUP = 4,
    localparam int unsigned LANE_BITS = $clog2(LANES),
    localparam int unsigned DIM_BITS = $clog2(HEAD_DIM + 1),
    localparam int unsigned HEAD_BITS = GROUP > 1 ? $clog2(GROUP) : 1,
    localparam int unsigned HEADS_BITS = $clog2(GROUP + 1)
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
    // spikes of a word, in the cycle `working`
    output logic [       LANES-1:0]          fired,
    output logic [       LANES-1:0]          negative,
    output logic [  DIM_BITS-1:0]            element,  // of lane 0, modulo its width: only lanes of the mask fire
    output logic [   HEAD_BITS-1:0]          head,
    output logic [             3:0]          phase,
    // code of each head, from the cycle after `done` on
    output logic [       GROUP-1:0][3:0]     phases,
    output logic [       GROUP-1:0][4:0]     exponent  // k_q
);
  // word being read
  logic active_q;
  logic [HEAD_BITS-1:0] head_q;
  logic [3:0] phase_q;
  logic [DIM_BITS-1:0] word_q;
  logic [14:0] first_q, first_now;
  logic [GROUP-1:0][31:0] maximum_q;
  logic [5:0] top;
  logic [3:0] phases_now;
  logic [DIM_BITS-1:0] words;
  logic last_word, last_phase, last_head;

  // word being coded
  logic forward_q;
  logic [4:0] k_q;
  logic done_q;
  logic [LANES-1:0][31:0] forward_data_q;

  // Smallest k >= 0 with 3 * 2^k >= 2 m: the place of the leading one of m, or the next if m is above 1.5 times it.
  function automatic logic [5:0] top_phase(input logic [31:0] m);
    top_phase = '0;
    for (int unsigned i = 1; i < 32; ++i) begin
      if (m[i]) top_phase = 6'(i) + 6'(m[i-1] && (m & ((32'd1 << (i - 1)) - 32'd1)) != '0);
    end
  endfunction

  assign first_now = start ? first : first_q;
  assign read_enable = start || active_q;
  assign read_word = (first_now >> LANE_BITS) + 15'(word_q);
  assign top = top_phase(start ? maximum[0] : maximum_q[head_q]);
  assign phases_now = top + 6'd1 < 6'(phases_allowed) ? 4'(top + 6'd1) : phases_allowed;
  assign words = 32'(head_dim) > LANES ? head_dim >> LANE_BITS : DIM_BITS'(1);
  assign last_word = word_q + DIM_BITS'(1) == words;
  assign last_phase = last_word && phase_q + 4'd1 == phases_now;
  assign last_head = last_phase && HEADS_BITS'(head_q) + HEADS_BITS'(1) == heads;

  always_ff @(posedge clk) begin
    if (start) begin
      active_q <= 1'b1;
      maximum_q <= maximum;
      first_q <= first;
    end
    if (read_enable) begin
      word_q <= last_word ? '0 : word_q + DIM_BITS'(1);
      if (last_word) phase_q <= last_phase ? '0 : phase_q + 4'd1;
      if (last_phase) begin
        head_q <= last_head ? '0 : head_q + HEAD_BITS'(1);
        first_q <= first_now + 15'(head_dim);
      end
      if (last_head) active_q <= 1'b0;
      write_word <= read_word;
      // The word written in this cycle is not yet seen by its read.
      forward_q <= working && read_word == write_word;
      forward_data_q <= write_data;
      k_q <= 5'(top - 6'(phase_q));
      head <= head_q;
      phase <= phase_q;
      element <= DIM_BITS'({word_q, LANE_BITS'(0)}) - DIM_BITS'(first_now[LANE_BITS-1:0]);
      phases[head_q] <= phases_now;
      exponent[head_q] <= 5'(top + 6'd1 - 6'(phases_now));
      for (int unsigned i = 0; i < LANES; ++i)
        write_mask[i] <= 32'(first_now[LANE_BITS-1:0]) <= i && i < 32'(first_now[LANE_BITS-1:0]) + 32'(head_dim);
    end
    working <= read_enable;
    done_q <= read_enable && last_head;
    if (rst) begin
      {active_q, working, done_q} <= '0;
      {word_q, phase_q, head_q} <= '0;
    end
  end

  assign done = done_q;
  assign write_enable = working;

  always_comb begin
    automatic logic [35:0] weight = 36'd1 << k_q;
    negative = '0;
    fired = '0;
    write_data = '0;
    if (working) begin
      for (int unsigned i = 0; i < LANES; ++i) begin
        automatic logic [31:0] v = forward_q ? forward_data_q[i] : query_data[i];
        automatic logic [35:0] magnitude = {4'd0, v[31] ? -v : v};
        negative[i] = v[31];
        fired[i] = write_mask[i] && (magnitude << 2) >= weight + (weight << 1) &&
            (magnitude << 1) > weight + 36'(stop_data[i] >> k_q);
        write_data[i] = !fired[i] ? v : v[31] ? v + weight[31:0] : v - weight[31:0];
      end
    end
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> !active_q)
  else $error("start_when_idle: queries are being coded");
`endif
endmodule

`default_nettype wire

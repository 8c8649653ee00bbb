// Turn of a query encoder through the heads of a group, and the range of the phases of each (numerics.md, Attention).
//
// `active` from `start` on, until with `head_ends` the last head ends; `head_ends` is the last cycle in which the encoder deals with the head. All other
// outputs are of the head that it deals with, but for the codes of all heads, which stay.
`default_nettype none

module nmllm_attention_heads #(
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
    // head
    input  logic                             head_ends,
    output logic                             active,
    output logic                             ends,  // all heads end in this cycle
    output logic [   HEAD_BITS-1:0]          head,
    output logic [            14:0]          word,  // first word of the query vector
    output logic [    DIM_BITS-1:0]          words,
    output logic [   LANE_BITS-1:0]          lane,  // of its first element
    output logic [       LANES-1:0]          mask,  // lanes of its elements
    output logic [             4:0]          top,  // k of its first phase
    output logic [             3:0]          head_phases,
    // code of each head, from the cycle after it ends on
    output logic [       GROUP-1:0][3:0]     phases,
    output logic [       GROUP-1:0][4:0]     exponent  // k_q
);
  logic active_q;
  logic [HEAD_BITS-1:0] head_q;
  logic [14:0] first_q, first_now;
  logic [GROUP-1:0][31:0] maximum_q;

  // Smallest k >= 0 with 3 * 2^k >= 2 m: the place of the leading one of m, or the next if m is above 1.5 times it.
  function automatic logic [4:0] top_phase(input logic [31:0] m);
    top_phase = '0;
    for (int unsigned i = 1; i < 32; ++i) begin
      if (m[i]) top_phase = 5'(i) + 5'(m[i-1] && (m & ((32'd1 << (i - 1)) - 32'd1)) != '0);
    end
  endfunction

  assign active = start || active_q;
  assign ends = active && head_ends && HEADS_BITS'(head_q) + HEADS_BITS'(1) == heads;
  assign head = head_q;
  assign first_now = start ? first : first_q;
  assign word = first_now >> LANE_BITS;
  assign words = 32'(head_dim) > LANES ? head_dim >> LANE_BITS : DIM_BITS'(1);
  assign lane = first_now[LANE_BITS-1:0];
  assign top = top_phase(start ? maximum[0] : maximum_q[head_q]);
  assign head_phases = 6'(top) + 6'd1 < 6'(phases_allowed) ? 4'(top + 5'd1) : phases_allowed;
  always_comb for (int unsigned i = 0; i < LANES; ++i) mask[i] = 32'(lane) <= i && i < 32'(lane) + 32'(head_dim);

  always_ff @(posedge clk) begin
    if (start) begin
      active_q <= 1'b1;
      maximum_q <= maximum;
      first_q <= first;
    end
    if (active) begin
      phases[head_q] <= head_phases;
      exponent[head_q] <= top + 5'd1 - 5'(head_phases);
      if (head_ends) begin
        head_q <= ends ? '0 : head_q + HEAD_BITS'(1);
        first_q <= first_now + 15'(head_dim);
      end
      if (ends) active_q <= 1'b0;
    end
    if (rst) {active_q, head_q} <= '0;
  end

`ifndef SYNTHESIS
  start_when_idle : assert property (@(posedge clk) disable iff (rst) start |-> !active_q)
  else $error("start_when_idle: queries are being coded");
`endif
endmodule

`default_nettype wire

// Pushes of a vector tile into its router: credits first, then vectors and tokens, then spikes (docs/reference/timing.md, Network on chip).
//
// `send` is high while the instruction of that name is under way: it waits for a credit of the receiver, then pushes the residual, two values per flit;
// the first flit may leave in the cycle of the credit's arrival plus one. The first word of the residual is read while the addition before it ends
// (`prefetch`), the next one with the last pair of a word; the memory keeps it until then. `send_token` pushes the head's choice. A credit falls
// due while nothing else waits, so it overtakes no flit that was offered.
`default_nettype none

module nmllm_injection
  import nmllm_pkg::*;
#(
    parameter int unsigned WORDS = 64,
    localparam int unsigned ADDRESS_BITS = $clog2(WORDS),
    localparam int unsigned LANE_BITS = $clog2(VECTOR_LANES)
) (
    input  logic                                clk,
    input  logic                                rst,
    input  logic [ROUTE_BITS-1:0]               vector_route,
    input  logic [ROUTE_BITS-1:0]               credit_route,
    // credits: one due to the sender of a residual, one of the receiver of ours
    input  logic                                credit_due,
    input  logic                                credit_arrives,
    // vectors and tokens
    input  logic                                send,
    input  logic [14:0]                         size,
    input  logic                                wanted,
    input  logic [SEQUENCE_BITS-1:0]            stream_sequence,  // of what is sent
    output logic                                send_done,
    input  logic                                send_token,
    input  logic [31:0]                         token,
    output logic                                token_done,
    input  logic                                prefetch,
    output logic                                read_enable,
    output logic [ADDRESS_BITS-1:0]             read_address,
    input  logic [VECTOR_LANES-1:0][31:0]       read_data,
    // spikes
    input  logic                                spike_valid,
    output logic                                spike_ready,
    input  flit_t                               spike_flit,
    // to the router
    output logic                                out_valid,
    input  logic                                out_ready,
    output flit_t                               out_flit
);
  logic [1:0] credits_due_q;
  logic [3:0] credits_q;
  logic credit_valid, send_valid, vector_valid, vector_pushed, granted_q, last;
  logic [14:0] element_q;
  logic [LANE_BITS-1:0] lane;  // of the pair's first value
  flit_t vector_flit;

  assign credit_valid = credits_due_q != '0 || credit_due;
  assign send_valid = send && (granted_q || credits_q != '0);
  assign vector_valid = send_valid || send_token;
  assign last = element_q + 15'd2 >= size;
  assign lane = LANE_BITS'(element_q);  // elements go two by two

  always_comb begin
    vector_flit = '0;
    vector_flit.route = vector_route;
    if (send_token) begin
      vector_flit.tag = 16'(stream_sequence);
      vector_flit.payload = 64'(token);
    end else begin
      vector_flit.flag = last && size[0];
      vector_flit.tag = {wanted, 15'(stream_sequence)};
      vector_flit.payload = {read_data[lane|LANE_BITS'(1)], read_data[lane]};
      if (vector_flit.flag) vector_flit.payload[63:32] = '0;
    end
    out_valid = credit_valid || vector_valid || spike_valid;
    out_flit = vector_valid ? vector_flit : spike_flit;
    if (credit_valid) begin
      out_flit = '0;
      out_flit.route = credit_route;
    end
  end

  assign spike_ready = out_ready && !credit_valid && !vector_valid;
  assign vector_pushed = vector_valid && !credit_valid && out_ready;
  assign send_done = send_valid && vector_pushed && last;
  assign token_done = send_token && vector_pushed;
  assign read_enable = prefetch || (send && vector_pushed && lane == LANE_BITS'(VECTOR_LANES - 2));
  assign read_address = prefetch ? '0 : ADDRESS_BITS'(element_q >> LANE_BITS) + 1'b1;

  always_ff @(posedge clk) begin
    credits_due_q <= credits_due_q + 2'(credit_due) - 2'(credit_valid && out_ready);
    credits_q <= credits_q + 4'(credit_arrives) - 4'(send && !granted_q && credits_q != '0);
    granted_q <= send_valid && !send_done;
    if (send_done) element_q <= '0;
    else if (send_valid && vector_pushed) element_q <= element_q + 15'd2;
    if (rst) begin
      credits_due_q <= '0;
      credits_q <= 4'd2;
      granted_q <= 1'b0;
      element_q <= '0;
    end
  end

`ifndef SYNTHESIS
  credits_bounded : assert property (@(posedge clk) disable iff (rst) credits_q <= 4'd2)
  else $error("credits_bounded: more credits than slots");
  stable_output : assert property (@(posedge clk) disable iff (rst) out_valid && !out_ready |=> out_valid && $stable(out_flit))
  else $error("stable_output: a flit was withdrawn or changed before it was accepted");
`endif
endmodule

`default_nettype wire

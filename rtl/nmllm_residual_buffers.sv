// The residual stream of a stage and the two slots of the residual to come: three buffers that take turns (docs/reference/rtl/vector-tile.md).
//
// Flits of the incoming residual fill the slots in turn; `available` is high while one is full. `take` makes the oldest full slot the stream, from
// this cycle on, and the old stream's buffer a free slot. Reads and writes go to the stream, and a write of word 0 begins a new vector. A flit's tag says
// whether the token's logits are wanted, and whose token it is; its place in the vector, `arriving_element`, is counted here. With MAXIMUM_WRITTEN `magnitudes`
// of the stream, all joined by OR, are those of what was written last.
`default_nettype none

module nmllm_residual_buffers
  import nmllm_pkg::*;
#(
    parameter int unsigned WORDS = 64,
    parameter bit WRITTEN = MAXIMUM_WRITTEN != 0,
    localparam int unsigned ADDRESS_BITS = $clog2(WORDS),
    localparam int unsigned LANE_BITS = $clog2(VECTOR_LANES)
) (
    input  logic                                clk,
    input  logic                                rst,
    input  logic [              14:0]           size,  // elements
    // flits of the incoming residual: the lanes that they hold of the word of their first element
    input  logic                                arrives,
    // verilator lint_off UNUSEDSIGNAL
    input  logic [              15:0]           arriving_tag,  // sequences have fewer bits
    // verilator lint_on UNUSEDSIGNAL
    output logic [              14:0]           arriving_element,
    input  logic [VECTOR_LANES-1:0]             arriving_mask,
    input  logic [VECTOR_LANES-1:0][31:0]       arriving_lanes,
    output logic                                available,
    input  logic                                take,
    output logic                                wanted,  // logits of the stream's token
    output logic [ SEQUENCE_BITS-1:0]           stream_sequence,
    output logic [              31:0]           magnitudes,
    // the stream
    input  logic                                read_enable,
    input  logic [ADDRESS_BITS-1:0]             read_address,
    output logic [VECTOR_LANES-1:0][31:0]       read_data,
    input  logic                                write_enable,
    input  logic [ADDRESS_BITS-1:0]             write_address,
    input  logic [VECTOR_LANES-1:0][31:0]       write_data
);
  typedef logic [1:0] buffer_t;

  buffer_t stream_q, stream_next, filling_q;
  logic [1:0] full_slots_q;
  logic [14:0] element_q;  // the next one to arrive
  logic [2:0] wanted_q;  // of the token in each buffer
  logic [SEQUENCE_BITS-1:0] sequence_q[3];
  logic complete;

  function automatic buffer_t following(input buffer_t number);
    following = number == 2'd2 ? 2'd0 : number + 2'd1;
  endfunction

  assign available = full_slots_q != '0;
  assign wanted = wanted_q[stream_q];
  assign stream_sequence = sequence_q[stream_q];
  assign arriving_element = element_q;
  assign complete = arrives && element_q + 15'd2 >= size;
  assign stream_next = take ? following(stream_q) : stream_q;

  always_ff @(posedge clk) begin
    stream_q <= stream_next;
    full_slots_q <= full_slots_q + 2'(complete) - 2'(take);
    if (arrives) begin
      element_q <= complete ? '0 : element_q + 15'd2;
      if (complete) filling_q <= following(filling_q);
      wanted_q[filling_q] <= arriving_tag[15];
      sequence_q[filling_q] <= arriving_tag[SEQUENCE_BITS-1:0];
    end
    if (rst) begin
      stream_q <= 2'd2;
      filling_q <= 2'd0;
      full_slots_q <= '0;
      element_q <= '0;
    end
  end

  logic [VECTOR_LANES-1:0][31:0] datas[3];
  for (genvar b = 0; b < 3; b++) begin : g_buffer
    logic written;
    assign written = write_enable && stream_q == 2'(b);
    nmllm_lane_ram #(.LANES(VECTOR_LANES), .DEPTH(WORDS)) buffer_ram (
        .clk, .write_mask(written ? '1 : arriving_mask & {VECTOR_LANES{arrives && filling_q == 2'(b)}}),
        .write_address(written ? write_address : ADDRESS_BITS'(element_q >> LANE_BITS)),
        .write_data(written ? write_data : arriving_lanes), .read_enable(read_enable && stream_next == 2'(b)), .read_address,
        .read_data(datas[b]));
  end
  assign read_data = datas[stream_q];

  if (WRITTEN) begin : g_magnitudes
    logic [31:0] magnitudes_q[3];

    function automatic logic [31:0] joined(input logic [VECTOR_LANES-1:0] mask, input logic [VECTOR_LANES-1:0][31:0] data);
      joined = '0;
      for (int unsigned i = 0; i < VECTOR_LANES; ++i) if (mask[i]) joined |= data[i][31] ? -data[i] : data[i];
    endfunction

    logic [VECTOR_LANES-1:0] in_vector;
    always_comb for (int unsigned i = 0; i < VECTOR_LANES; ++i) in_vector[i] = 32'({write_address, LANE_BITS'(i)}) < 32'(size);

    always_ff @(posedge clk) begin
      for (int unsigned b = 0; b < 3; ++b) begin
        if (write_enable && stream_q == 2'(b)) magnitudes_q[b] <= joined(in_vector, write_data) | (write_address == '0 ? '0 : magnitudes_q[b]);
        else if (arrives && filling_q == 2'(b)) magnitudes_q[b] <= joined(arriving_mask, arriving_lanes) | (element_q == '0 ? '0 : magnitudes_q[b]);
      end
    end
    assign magnitudes = magnitudes_q[stream_next];
  end else begin : g_none
    assign magnitudes = '0;
  end

`ifndef SYNTHESIS
  slots_free : assert property (@(posedge clk) disable iff (rst) arrives |-> full_slots_q < 2'd2 || take)
  else $error("slots_free: a residual arrives and both slots are full");
`endif
endmodule

`default_nettype wire

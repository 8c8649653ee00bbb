// Sequencer of a vector tile: runs the instructions of a token, one after another (docs/reference/timing.md, Vector tile).
//
// An instruction starts in the cycle in which the one before it has ended. `receive` of what has arrived, and `send` in the last layer of a token
// without logits, take no cycle, so up to three entries of the list are looked at in one cycle.
//
// Register map (cfg_address = place in the list): instruction_t of the package. Base of `norm`: gains; of `encode`: stop prices, source 1: the attention
// output; of `kv-write`: element of the first key, source 1: key offsets, from word `route` of the parameters on; size of `receive`: flits, of
// others: elements. The first entry is `receive residual`, the last one `send` or `send-token`.
//
//   start     `current` starts in this cycle; `busy`: it has started before
//   finished  answers of the units, by operation: the instruction under way ends with this cycle
//   take_...  a `receive` of a residual, or of `receive_size` flits of values, ends at this cycle
//   ended     the instructions of one token end with this cycle
`default_nettype none

module nmllm_sequencer
  import nmllm_pkg::*;
#(
    localparam int unsigned INSTRUCTIONS = 32
) (
    input  logic                clk,
    input  logic                rst,
    input  logic                cfg_valid,
    // verilator lint_off UNUSEDSIGNAL
    input  logic [        23:0] cfg_address,
    input  logic [        63:0] cfg_data,
    // verilator lint_on UNUSEDSIGNAL
    input  logic                last_layer,
    input  logic                residual_available,
    input  logic                residual_wanted,  // logits of the token in the stream
    input  logic [        15:0] values_arrived,  // flits
    input  logic [        15:0] finished,
    output instruction_t        current,
    output logic                start,
    output logic                busy,
    output logic                send_follows,  // the next instruction is `send`
    output logic                take_residual,
    output logic                take_values,
    output logic [        15:0] receive_size,
    output logic                ended
);
  instruction_t program_q[INSTRUCTIONS];
  instruction_t running_q;
  logic [4:0] pc_q, pc_running_q, pc_start;
  logic skip_send, finish, sends;

  always_ff @(posedge clk) begin
    if (cfg_valid) program_q[cfg_address[4:0]] <= instruction_t'(cfg_data[51:0]);
  end

  always_comb begin
    pc_start = pc_q;
    skip_send = program_q[pc_start].operation == SEND && last_layer && !residual_wanted && !busy;
    if (skip_send) pc_start = '0;
    take_residual = !busy && program_q[pc_start].operation == RECEIVE_RESIDUAL && residual_available;
    if (take_residual) pc_start = 5'd1;
    receive_size = 16'(program_q[pc_start].size);
    take_values = !busy && program_q[pc_start].operation == RECEIVE && values_arrived >= receive_size;
    if (take_values) pc_start = pc_start + 5'd1;
    current = busy ? running_q : program_q[pc_start];
  end

  assign start = !busy && current.operation != RECEIVE_RESIDUAL && current.operation != RECEIVE && !rst;
  assign finish = (start || busy) && finished[current.operation];
  assign sends = current.operation == SEND || current.operation == SEND_TOKEN;
  assign send_follows = program_q[pc_running_q+5'd1].operation == SEND;
  assign ended = skip_send || (finish && sends);

  always_ff @(posedge clk) begin
    if (start) running_q <= current;
    if (finish) begin
      busy <= 1'b0;
      pc_q <= sends ? 5'd0 : (busy ? pc_running_q : pc_start) + 5'd1;
    end else if (start) begin
      busy <= 1'b1;
      pc_running_q <= pc_start;
    end else if (!busy) begin
      pc_q <= pc_start;
    end
    if (rst) begin
      busy <= 1'b0;
      pc_q <= '0;
    end
  end
endmodule

`default_nettype wire

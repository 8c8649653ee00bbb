// Router of the mesh (docs/reference/timing.md, Network on chip): five inputs with FIFOs, four links and the local output.
//
//   in_*      N, E, S, W, local; `in_ready` says that the FIFO held fewer than FIFO_DEPTH flits at the start of the cycle
//   out_*     N, E, S, W; `out_ready` is the `in_ready` of the neighbour. While a flit is refused another one may take its
//             place: every cycle chooses anew (`out_valid` stays)
//   local_*   to the tile, always taken
//   cfg_*     register map: address = route, data[4:0] = output ports of its flits here (bit 0 N, 1 E, 2 S, 3 W, 4 local)
//   counters  flits injected; for each link flits sent and cycles in which it had a flit and no room
//
// The table is read as a flit enters its FIFO and answers in the next cycle, the first in which the flit can be chosen. Longest
// path: table output, choice among five, flit multiplexer, address of the neighbour's table.
`default_nettype none

module nmllm_router
  import nmllm_pkg::*;
(
    input  logic                  clk,
    input  logic                  rst,
    input  logic                  in_valid       [5],
    output logic                  in_ready       [5],
    input  flit_t                 in_flit        [5],
    output logic                  out_valid      [4],
    input  logic                  out_ready      [4],
    output flit_t                 out_flit       [4],
    output logic                  local_valid,
    output flit_t                 local_flit,
    input  logic                  cfg_valid,
    input  logic [          23:0] cfg_address,
    input  logic [          63:0] cfg_data,
    output logic [          47:0] flits_injected,
    output logic [          47:0] link_flits     [4],
    output logic [          47:0] link_refusals  [4]
);
  /* verilator no_inline_module */  // one C++ function for all routers of a mesh

  localparam int unsigned LOCAL = 4;
  localparam int unsigned SLOT_BITS = FIFO_DEPTH > 1 ? $clog2(FIFO_DEPTH) : 1;
  localparam int unsigned COUNT_BITS = $clog2(FIFO_DEPTH + 1);
  localparam logic [SLOT_BITS-1:0] LAST_SLOT = SLOT_BITS'(FIFO_DEPTH - 1);

  typedef logic [SLOT_BITS-1:0] slot_t;

  flit_t fifo[5][FIFO_DEPTH];
  logic [4:0] masks[5][FIFO_DEPTH];  // table entries of the flits behind the heads
  slot_t first[5], last[5];  // places of the head and of the newest flit
  logic [COUNT_BITS-1:0] count[5];
  logic [4:0] pending[5];  // outputs that the head has still to take
  logic fresh[5];  // the newest flit entered in the last cycle: its table entry is `found`
  logic [4:0] found[5];
  logic [2:0] pointer[5];  // round robin of each output

  function automatic slot_t next_slot(input slot_t slot);
    return slot == LAST_SLOT ? '0 : slot + slot_t'(1);
  endfunction

  // ------------------------------------------------------------------ route table, one read port for each input
  for (genvar i = 0; i < 5; i++) begin : g_table
    nmllm_ram #(
        .WIDTH(5),
        .DEPTH(ROUTES)
    ) table_i (
        .clk,
        .write_enable(cfg_valid),
        .write_address(cfg_address[ROUTE_BITS-1:0]),
        .write_data(cfg_data[4:0]),
        .read_enable(in_valid[i] && in_ready[i]),
        .read_address(in_flit[i].route),
        .read_data(found[i])
    );
  end

  // ------------------------------------------------------------------ choice and grants
  logic [4:0] wanted[5];  // of each head
  logic [4:0] taken[5];  // outputs granted to each head
  logic [2:0] chosen[5];  // input chosen by each output
  logic requested[5];
  logic granted[5];

  logic holds_flits, active;  // something may move; asking for it once saves most of the simulation time of an idle router
  assign holds_flits = (count[0] | count[1] | count[2] | count[3] | count[4]) != '0;
  assign active = holds_flits || in_valid[0] || in_valid[1] || in_valid[2] || in_valid[3] || in_valid[4] || rst;

  always_comb begin
    for (int i = 0; i < 5; i++) begin
      wanted[i] = '0;
      taken[i] = '0;
      in_ready[i] = count[i] != COUNT_BITS'(FIFO_DEPTH);
      requested[i] = 1'b0;
      granted[i] = 1'b0;
      chosen[i] = '0;
    end
    if (holds_flits) begin
      for (int i = 0; i < 5; i++) wanted[i] = fresh[i] && count[i] == 1 ? found[i] : pending[i];
      for (int o = 0; o < 5; o++) begin
        requested[o] = wanted[0][o] || wanted[1][o] || wanted[2][o] || wanted[3][o] || wanted[4][o];
        // Later assignments win: the lowest candidate, unless there is one at or after the pointer.
        for (int i = 4; i >= 0; i--) if (wanted[i][o]) chosen[o] = 3'(i);
        for (int i = 4; i >= 0; i--) if (wanted[i][o] && 3'(i) >= pointer[o]) chosen[o] = 3'(i);
        granted[o] = requested[o];
        if (o < LOCAL) granted[o] = requested[o] && out_ready[o];
        if (granted[o]) taken[chosen[o]][o] = 1'b1;
      end
    end
  end

  always_comb begin
    for (int o = 0; o < LOCAL; o++) begin
      out_valid[o] = requested[o];
      out_flit[o]  = fifo[chosen[o]][first[chosen[o]]];
    end
    local_valid = requested[LOCAL];
    local_flit  = fifo[chosen[LOCAL]][first[chosen[LOCAL]]];
  end

  // ------------------------------------------------------------------ FIFOs
  always_ff @(posedge clk) begin
    if (active) begin
      for (int i = 0; i < 5; i++) begin
        automatic logic push = in_valid[i] && in_ready[i];
        automatic logic pop = count[i] != 0 && (wanted[i] & ~taken[i]) == 0;
        automatic slot_t second = next_slot(first[i]);
        automatic slot_t free = next_slot(last[i]);
        fresh[i] <= push;
        if (fresh[i]) masks[i][last[i]] <= found[i];
        if (push) begin
          fifo[i][free] <= in_flit[i];
          last[i] <= free;
        end
        if (pop) first[i] <= second;
        if (!pop) pending[i] <= wanted[i] & ~taken[i];
        else if (count[i] == 1) pending[i] <= '0;
        else pending[i] <= fresh[i] && 32'(count[i]) == 2 ? found[i] : masks[i][second];
        if (push != pop) count[i] <= push ? count[i] + 1'b1 : count[i] - 1'b1;
      end
      for (int o = 0; o < 5; o++) if (granted[o]) pointer[o] <= chosen[o] == 4 ? '0 : chosen[o] + 1'b1;
    end
    if (rst) begin
      for (int i = 0; i < 5; i++) begin
        first[i] <= '0;
        last[i] <= LAST_SLOT;
        count[i] <= '0;
        pending[i] <= '0;
        fresh[i] <= 1'b0;
        pointer[i] <= '0;
      end
    end
  end

  // ------------------------------------------------------------------ counters
  always_ff @(posedge clk) begin
    if (in_valid[LOCAL] && in_ready[LOCAL]) flits_injected <= flits_injected + 1;
    for (int o = 0; o < LOCAL; o++) begin
      if (granted[o]) link_flits[o] <= link_flits[o] + 1;
      if (requested[o] && !granted[o]) link_refusals[o] <= link_refusals[o] + 1;
    end
    if (rst) begin
      flits_injected <= '0;
      for (int o = 0; o < LOCAL; o++) begin
        link_flits[o] <= '0;
        link_refusals[o] <= '0;
      end
    end
  end

  wire unused = &{1'b0, cfg_address[23:ROUTE_BITS], cfg_data[63:5]};

`ifndef SYNTHESIS
  for (genvar i = 0; i < 5; i++) begin : g_assert_input
    head_has_an_output :
    assert property (@(posedge clk) disable iff (rst) count[i] != 0 |-> wanted[i] != 0)
    else $error("head_has_an_output: route %0d has no output here", fifo[i][first[i]].route);
  end
  for (genvar o = 0; o < LOCAL; o++) begin : g_assert_output
    valid_stays :
    assert property (@(posedge clk) disable iff (rst) out_valid[o] && !out_ready[o] |=> out_valid[o])
    else $error("valid_stays: output %0d", o);
  end
`endif
endmodule

`default_nettype wire

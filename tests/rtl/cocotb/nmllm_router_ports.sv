// nmllm_router with a port for each of its streams: simulators offer no names for elements of array ports.
`default_nettype none

module nmllm_router_ports
  import nmllm_pkg::*;
(
    input  logic         clk,
    input  logic         rst,
    input  logic         in0_valid,
    input  logic         in1_valid,
    input  logic         in2_valid,
    input  logic         in3_valid,
    input  logic         in4_valid,
    output logic         in0_ready,
    output logic         in1_ready,
    output logic         in2_ready,
    output logic         in3_ready,
    output logic         in4_ready,
    input  flit_t        in0_flit,
    input  flit_t        in1_flit,
    input  flit_t        in2_flit,
    input  flit_t        in3_flit,
    input  flit_t        in4_flit,
    output logic         out0_valid,
    output logic         out1_valid,
    output logic         out2_valid,
    output logic         out3_valid,
    output logic         out4_valid,   // to the tile, always taken
    input  logic         out0_ready,
    input  logic         out1_ready,
    input  logic         out2_ready,
    input  logic         out3_ready,
    output flit_t        out0_flit,
    output flit_t        out1_flit,
    output flit_t        out2_flit,
    output flit_t        out3_flit,
    output flit_t        out4_flit,
    input  logic         cfg_valid,
    input  logic  [23:0] cfg_address,
    input  logic  [63:0] cfg_data
);
  logic in_valid[5], in_ready[5], out_valid[4], out_ready[4];
  flit_t in_flit[5], out_flit[4];
  logic [47:0] flits_injected, link_flits[4], link_refusals[4];

  nmllm_router u_router (
      .clk,
      .rst,
      .in_valid,
      .in_ready,
      .in_flit,
      .out_valid,
      .out_ready,
      .out_flit,
      .local_valid(out4_valid),
      .local_flit(out4_flit),
      .cfg_valid,
      .cfg_address,
      .cfg_data,
      .flits_injected,
      .link_flits,
      .link_refusals
  );

  assign in_valid = '{in0_valid, in1_valid, in2_valid, in3_valid, in4_valid};
  assign in_flit = '{in0_flit, in1_flit, in2_flit, in3_flit, in4_flit};
  assign {in4_ready, in3_ready, in2_ready, in1_ready, in0_ready} = {in_ready[4], in_ready[3], in_ready[2], in_ready[1], in_ready[0]};
  assign out_ready = '{out0_ready, out1_ready, out2_ready, out3_ready};
  assign {out3_valid, out2_valid, out1_valid, out0_valid} = {out_valid[3], out_valid[2], out_valid[1], out_valid[0]};
  assign out0_flit = out_flit[0];
  assign out1_flit = out_flit[1];
  assign out2_flit = out_flit[2];
  assign out3_flit = out_flit[3];
endmodule

`default_nettype wire

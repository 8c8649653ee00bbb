// nmllm_norm with its memories; `load_memory` 0 residual, 1 gains.
`default_nettype none

module nmllm_norm_tb #(
    parameter  int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter  int unsigned LATENCY = nmllm_pkg::NORM_LATENCY,
    localparam int unsigned ADDRESS_BITS = 10
) (
    input  logic                           clk,
    input  logic                           rst,
    input  logic                           load_valid,
    input  logic                           load_memory,
    input  logic        [ADDRESS_BITS-1:0] load_address,
    input  logic [LANES-1:0][        31:0] load_data,
    input  logic                           cfg_valid,
    input  logic                           cfg_address,
    input  logic        [            63:0] cfg_data,
    input  logic                           start,
    input  logic        [            14:0] size,
    input  logic        [ADDRESS_BITS-1:0] residual_base,
    input  logic        [ADDRESS_BITS-1:0] gain_base,
    input  logic        [ADDRESS_BITS-1:0] output_base,
    input  logic        [            31:0] magnitudes,
    output logic                           done,
    output logic                           write_enable,
    output logic        [ADDRESS_BITS-1:0] write_address,
    output logic [LANES-1:0][        31:0] write_data,
    output logic        [            47:0] count_elements,
    output logic        [            47:0] count_square_roots,
    output logic        [            47:0] count_divisions,
    output logic        [            47:0] count_words_read,
    output logic        [            47:0] count_words_written
);
  logic residual_enable, gain_enable;
  logic [ADDRESS_BITS-1:0] residual_address, gain_address;
  logic [LANES-1:0][31:0] residual_data, gain_data;

  nmllm_norm #(
      .LANES(LANES),
      .LATENCY(LATENCY),
      .ADDRESS_BITS(ADDRESS_BITS)
  ) u_norm (
      .*
  );

  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << ADDRESS_BITS)
  ) u_residual (
      .clk,
      .write_enable(load_valid && !load_memory),
      .write_address(load_address),
      .write_data(load_data),
      .read_enable(residual_enable),
      .read_address(residual_address),
      .read_data(residual_data)
  );

  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << ADDRESS_BITS)
  ) u_gain (
      .clk,
      .write_enable(load_valid && load_memory),
      .write_address(load_address),
      .write_data(load_data),
      .read_enable(gain_enable),
      .read_address(gain_address),
      .read_data(gain_data)
  );
endmodule

`default_nettype wire

#version 330 core

// Positions in GL clip space; what mesh.frag shades with, in the world.

layout(location = 0) in vec3 position;
layout(location = NORMAL_LOC) in vec3 normal;
#ifdef TEXCOORD_0_LOC
layout(location = TEXCOORD_0_LOC) in vec2 texcoord_0;
out vec2 uv;
#endif
#ifdef COLOR_0_LOC
layout(location = COLOR_0_LOC) in vec4 color_0;
out vec3 vertex_colour;
#endif

uniform mat4 V;
uniform mat4 P;

out vec3 world_position;
out vec3 world_normal;

void main()
{
    gl_Position = P * V * vec4(position, 1.0);
    world_position = position;
    world_normal = normal;
#ifdef TEXCOORD_0_LOC
    uv = texcoord_0;
#endif
#ifdef COLOR_0_LOC
    vertex_colour = color_0.rgb;
#endif
}
